"""What the tests share: commands that must fail, a trained run, and `compare` with stand-ins for its checks."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnbench.callbacks.checkpoint import AtomicCheckpointIO
from cnnbench.cli.main import main

sys.path.append(str(Path(__file__).parents[1] / "compare"))
import stand_ins

SHORT = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.log_every_n_steps", "1")


@pytest.fixture
def mistake(tmp_path, capsys):
    """A function that runs a command with a mistake in it, and returns the message.

    It asserts what every mistake has in common: exit code 2, at most three lines, no traceback, no run left behind.
    """
    root = tmp_path / "runs"

    def run(*words, leaves_run=False):
        code = main([*map(str, words), "--wandb", "disabled", "--trainer.default_root_dir", str(root)])
        printed = capsys.readouterr()
        assert code == 2, printed.out
        assert printed.err.startswith("cnnbench: error: ")
        assert len(printed.err.splitlines()) <= 3
        assert "Traceback" not in printed.err
        assert leaves_run or not root.exists() or not any(root.iterdir())
        return printed.err

    return run


@pytest.fixture
def saved(monkeypatch):
    """The names of the checkpoints that a run saves, which then stay unwritten: large networks fill a disk."""
    names = []

    def keep_name(io, checkpoint, path, storage_options=None):
        names.append(Path(path).name)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", keep_name)
    return names


@dataclass
class TrainedRun:
    config: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A function that trains a model on digits for two steps, once a session."""
    runs = {}

    def train(name):
        if name not in runs:
            root = tmp_path_factory.mktemp(name)
            options = ("--model.name", name, *SHORT, "--wandb", "disabled", "--trainer.default_root_dir", str(root))
            assert main(["fit", "--config", "configs/lenet5.yaml", *options]) == 0
            (config,) = root.rglob("config.yaml")
            runs[name] = TrainedRun(config, config.parent / "checkpoints/best.ckpt")
        return runs[name]

    return train


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    """Messages name the recipes below the working directory."""
    monkeypatch.chdir(Path(__file__).parents[2])


CHECKS = {
    "parity.check_parity": lambda ours, theirs, size, seed, device: stand_ins.EQUAL,
    "cost.measure_cost": lambda ours, theirs, size: stand_ins.COST,
}


@pytest.fixture
def checks(monkeypatch):
    """Parity and cost without what they cost; `checks(parity=...)` makes parity find something else."""
    for name, function in CHECKS.items():
        module, _, attribute = name.partition(".")
        monkeypatch.setitem(sys.modules, f"cnnbench.compare.{module}", SimpleNamespace(**{attribute: function}))

    def find(parity):
        stand_in = SimpleNamespace(check_parity=lambda ours, theirs, size, seed, device: parity)
        monkeypatch.setitem(sys.modules, "cnnbench.compare.parity", stand_in)

    return find


@pytest.fixture
def compare(capsys):
    """A function that runs the command and returns its exit code, standard output and standard error."""

    def run(*words, checks="parity,cost"):
        code = main(["compare", *map(str, words), *(("--checks", checks) if checks else ())])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
