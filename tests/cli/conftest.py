"""What the tests of bad input share: commands that must fail, and a trained run."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from cnnbench.callbacks.checkpoint import AtomicCheckpointIO
from cnnbench.cli.main import main

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
