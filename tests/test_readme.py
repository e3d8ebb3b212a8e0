"""What the README tells a reader to type works."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

import cnnbench
from cnnbench.cli import main as cli
from cnnbench.models import registry

README = (Path(__file__).parents[1] / "README.md").read_text()
LINES = re.sub(r" \\\n\s+", " ", README)
COMMANDS = re.findall(r"^    python -m cnnbench ([^#\n]+?)(?:  +#.*)?$", LINES, re.MULTILINE)
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
(ARCHITECTURE,) = (block for block in BLOCKS if "register(" in block)
(PYTHON,) = (block for block in BLOCKS if "import timm" in block)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])


def test_there_are_commands():
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("line", [line for line in COMMANDS if "RUN" not in line and "help" not in line])
def test_a_command_is_understood(line, monkeypatch):
    """Parsed to the end, with model and data built, in place of hours of training."""
    words = shlex.split(line)
    if words[0] in ("models", "inspect"):
        assert cli.main(words) == 0
        return
    from cnnbench.cli.fit import FitCLI

    monkeypatch.setattr(FitCLI, "instantiate_trainer", lambda self: None)
    monkeypatch.setattr(FitCLI, "_run_subcommand", lambda self, subcommand: None)
    assert cli.main(words) == 0


def test_a_run_is_tested_and_predicted_as_written(command, configs):
    run = command("fit", "--config", configs / "lenet5.yaml", "--trainer.max_epochs", 1)
    written = [line for line in COMMANDS if "RUN" in line and "predict_root" not in line]
    assert len(written) == 4  # test, validate, predict, going on
    for line in written:
        short = ("--trainer.max_epochs", 2) if line.startswith("fit") else ()
        command(*shlex.split(line.replace("RUN", str(run.directory))), *short)


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(PYTHON.replace("max_epochs=5", "max_epochs=1, limit_train_batches=2"), "README.md", "exec"), names)
    assert names["task"].hparams.num_classes == 10
    ours, theirs = (names[side].state_dict() for side in ("ours", "theirs"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert names["also_ours"].state_dict().keys() == ours.keys()


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


def test_the_architecture_equals_its_reference(squeezenet, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent / "models")
    from parity import compare

    ours, theirs = (cnnbench.create_model("squeezenet1_1", source=s, dropout=0.0) for s in ("cnnbench", "torchvision"))
    parity = compare(ours, theirs, torch.randn(2, 3, 96, 96))
    assert parity.equal, (parity.key_differences, parity.worst)


def test_the_architecture_trains_by_a_recipe(squeezenet, command, configs):
    few = ("--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 1)
    run = command("fit", "--config", configs / "resnet18.yaml", "--model.name", "squeezenet1_1", *few)
    assert run.best.exists()


def test_the_architecture_gives_features(squeezenet):
    maps = cnnbench.create_model("squeezenet1_1", features_only=True)(torch.randn(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == [64, 128, 256, 512]
