"""A run of several processes: a mistake is told once, by the process that meets it first."""

import os
import signal
import time
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from cnnbench.errors import UserError

MARK = ".told"  # in the run's directory
_PATIENCE = 3.0  # seconds


def is_told_elsewhere(mistake: UserError | None, world_size: int, directory: Path | None) -> bool:
    """Return whether another process of this run tells the user what is wrong, so that this one keeps silent.

    Args:
        mistake: What this process met; None where it failed otherwise, as when the others have left: they may be a
            little late with the reason.
        world_size: Number of processes; 1 before the others have started.
        directory: The run's, where it has one already.
    """
    if directory is None or world_size == 1 or not (directory / "config.yaml").is_file():  # not the first one's
        return mistake is not None and os.environ.get("LOCAL_RANK", "0") != "0"
    mark = directory / MARK
    if mistake is None:
        end = time.monotonic() + _PATIENCE
        while not mark.exists() and time.monotonic() < end:
            time.sleep(0.05)
        return mark.exists()
    try:
        mark.touch(exist_ok=False)
    except OSError:  # it is there, or the first process has removed the directory
        return True
    return False


def end_others(trainer: Trainer) -> None:
    """End the processes that this one started: they cannot go on without it, and would complain of its absence."""
    if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        trainer.strategy.launcher.kill(signal.SIGKILL)
