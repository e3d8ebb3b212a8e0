"""Tracked runs of the real command, in process, each in an environment and a W&B session of its own."""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import wandb
from wandb.sdk.lib import wbauth
from wandb_log import WandbLog

from cnnbench.cli.main import main

RECIPE = Path(__file__).parents[2] / "configs/lenet5.yaml"
SHORT = ("--trainer.limit_train_batches", "6", "--trainer.log_every_n_steps", "2")


@dataclass
class TrackedRun:
    """What `fit` returned and printed, and the directory of its run."""

    code: int
    out: str
    err: str
    directory: Path | None

    @property
    def log(self) -> WandbLog:
        """The log of the one W&B run there is."""
        (path,) = self.directory.glob("wandb/offline-run-*/run-*.wandb")
        return WandbLog(path)

    @property
    def metrics(self) -> list[dict[str, float]]:
        """The rows of `metrics.csv`, without what is empty in each."""
        with (self.directory / "metrics.csv").open() as file:
            return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def clean_environment(home: Path) -> dict[str, str]:
    """Return the environment of a user without a login, whose files of W&B lie in `home`."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "netrc").touch()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "CNNBENCH_"))}
    return kept | {
        "NETRC": str(home / "netrc"),
        "XDG_DATA_HOME": str(home / "data"),
        "WANDB_CONFIG_DIR": str(home),
        "WANDB_CACHE_DIR": str(home / "cache"),
        "WANDB_ERROR_REPORTING": "false",
    }


@contextmanager
def session(environment: dict[str, str]) -> Iterator[None]:
    """Within, `environment` is the process's, and wandb is as if it had just been imported."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    _forget_session()
    try:
        yield
    finally:
        _forget_session()
        os.environ.clear()
        os.environ.update(before)


def _forget_session() -> None:
    wandb.teardown()
    wbauth.unauthenticate_session(update_settings=False)


def fit(root: Path, *words: str, recipe: Path = RECIPE, **environment: Any) -> TrackedRun:
    """Train LeNet-5, or by another recipe, for a few steps, its run and W&B's files below `root`.

    Args:
        root: An empty directory.
        words: Further words of the command.
        recipe: What is trained.
        environment: Variables beside those of `clean_environment`.
    """
    out, err = StringIO(), StringIO()
    options = ("--trainer.default_root_dir", str(root / "runs"), "--trainer.max_epochs", "2", *SHORT, *words)
    variables = {key: str(value) for key, value in environment.items()}
    with session(clean_environment(root / "home") | variables), redirect_stdout(out), redirect_stderr(err):
        code = main(["fit", "--config", str(recipe), *options])
    directories = list((root / "runs" / recipe.relative_to(RECIPE.parent).with_suffix("")).glob("*"))
    return TrackedRun(code, out.getvalue(), err.getvalue(), directories[0] if directories else None)
