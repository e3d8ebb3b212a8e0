"""What the README tells a reader to type works."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from published_files import write_published
from tiny_sets import write_coco

import cnnbench
from cnnbench.cli import bench_data
from cnnbench.cli import main as cli
from cnnbench.compare import session
from cnnbench.compare.result import Comparison
from cnnbench.models import registry
from cnnbench.models.detection import create_detector

README = (Path(__file__).parents[1] / "README.md").read_text()
LINES = re.sub(r" \\\n\s+", " ", README)
COMMANDS = re.findall(r"^    python -m cnnbench ([^#\n]+?)(?:  +#.*)?$", LINES, re.MULTILINE)
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
(ARCHITECTURE,) = (block for block in BLOCKS if "register(" in block)
(PYTHON,) = (block for block in BLOCKS if "ClassificationTask" in block)
(COMPARISON,) = (block for block in BLOCKS if "assert_parity" in block)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])


def test_there_are_commands():
    assert len(COMMANDS) >= 15


def nothing_compared(pairs, *args, **kwargs):
    return [Comparison(pair.model, pair.against or "its reference") for pair in pairs]


@pytest.mark.parametrize("line", [line for line in COMMANDS if "RUN" not in line and "help" not in line])
def test_a_command_is_understood(line, monkeypatch, with_recipes, capsys):
    """Parsed to the end, with model and data built, in place of hours of training."""
    words = shlex.split(line)
    if words[0] in ("models", "inspect"):
        assert cli.main(words) == 0
        return
    if words[0] == "bench-data":
        assert bench_data._parser().parse_args(words[1:]).rounds > 0
        return
    if words[0] == "compare":
        monkeypatch.setattr(
            session,
            "compare_pairs",
            lambda pairs, *args, **kwargs: [Comparison(p.model, p.against or "timm") for p in pairs],
        )
        monkeypatch.chdir(with_recipes)
        assert cli.main(words) == 0
        return
    if words[0] == "validate":  # it looks for its data at once, and would find the classes there
        assert cli.main(words) == 2
        assert "no path/to/coco/annotations" in capsys.readouterr().err
        return
    from cnnbench.cli.fit import FitCLI

    monkeypatch.setattr(FitCLI, "instantiate_trainer", lambda self: None)
    monkeypatch.setattr(FitCLI, "_run_subcommand", lambda self, subcommand: None)
    assert cli.main(words) == 0


def test_a_run_is_tested_and_predicted_as_written(command, configs, tmp_path, write_photo):
    run = command("fit", "--config", configs / "lenet5.yaml", "--trainer.max_epochs", 1)
    images = tmp_path / "images"
    write_photo(images / "of/mine.jpg")
    written = [line for line in COMMANDS if "RUN" in line]
    assert len(written) == 7  # test, validate, predict, the checkpoint alone twice, going on twice
    for epochs, line in enumerate(written, start=2):
        short = ("--trainer.max_epochs", epochs) if line.startswith("fit") else ()
        words = shlex.split(line.replace("RUN", str(run.directory)).replace("path/to/images", str(images)))
        command(*words, *short)


@pytest.mark.slow
def test_published_weights_of_a_detector_are_validated_as_written(command, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (line,) = (line for line in COMMANDS if line.startswith("validate") and "--model.pretrained" in line)
    line = line.replace("path/to/coco", str(write_coco(tmp_path / "coco")))
    words = shlex.split(line)
    name = words[words.index("--model.name") + 1]
    write_published(tmp_path, name, create_detector(name, as_published=True).state_dict())
    run = command(*words, "--data.image_size", 64, "--data.num_workers", 0)
    assert 0 <= run.metrics[0]["val/map"] <= 1


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(PYTHON.replace("max_epochs=5", "max_epochs=1, limit_train_batches=2"), "README.md", "exec"), names)
    assert names["task"].hparams.num_classes == 10
    ours, theirs = (names[side].state_dict() for side in ("ours", "theirs"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert names["also_ours"].state_dict().keys() == ours.keys()


def test_the_comparison_runs():
    names = {}
    exec(compile(COMPARISON, "README.md", "exec"), names)
    assert names["report"].equal
    names["test_mine_is_the_papers"]()
    assert all(
        torch.equal(value, names["theirs"].state_dict()[key]) for key, value in names["ours"].state_dict().items()
    )


@pytest.fixture
def with_recipes(tmp_path):
    """An empty folder with the recipes, for what a command writes."""
    (tmp_path / "configs").symlink_to(Path(__file__).parents[1] / "configs")
    return tmp_path


@pytest.fixture
def squeezenet(tmp_path, monkeypatch):
    """The README's architecture, in a file of its own, registered for this test only."""
    monkeypatch.setattr(registry, "_models", dict(registry._models))
    path = tmp_path / "squeezenet.py"
    path.write_text(ARCHITECTURE)
    spec = importlib.util.spec_from_file_location("squeezenet", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "squeezenet", module)
    spec.loader.exec_module(module)


def test_the_architecture_equals_its_reference(squeezenet):
    cnnbench.assert_parity("squeezenet1_1", "torchvision/squeezenet1_1", input_size=(3, 96, 96))


def test_the_architecture_trains_by_a_recipe(squeezenet, command, configs):
    few = ("--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 1)
    run = command("fit", "--config", configs / "resnet18.yaml", "--model.name", "squeezenet1_1", *few)
    assert run.best.exists()


def test_the_architecture_gives_features(squeezenet):
    maps = cnnbench.create_model("squeezenet1_1", features_only=True)(torch.randn(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == [64, 128, 256, 512]
