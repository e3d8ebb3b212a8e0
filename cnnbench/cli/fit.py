"""`python -m cnnbench fit`: train a model by a recipe, and keep its best and last checkpoint."""

import sys
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from cnnbench.callbacks.atomic import remove_abandoned
from cnnbench.callbacks.checkpoint import best_and_last
from cnnbench.callbacks.report import WandbReport
from cnnbench.callbacks.tracking import requested_wandb_mode
from cnnbench.cli.common.trainer import RunCLI
from cnnbench.errors import UserError


def run(args: Sequence[str] | None) -> None:
    """Train."""
    FitCLI(args)


class FitCLI(RunCLI):
    """Trains, then says where everything is and how to test it."""

    command = "fit"

    def before_instantiate_classes(self) -> None:
        """Clear away what a killed run left half-written beside the checkpoint that is trained on from."""
        super().before_instantiate_classes()
        if (path := self.config["fit"].ckpt_path) and rank_zero_only.rank == 0:
            remove_abandoned(Path(path).parent)

    def run_callbacks(self) -> list[Callback]:
        """Return checkpoints and, unless W&B is off, the report to it."""
        directory = self.directory / "checkpoints"
        self._best, last = best_and_last(directory, self.model.monitor, self.model.monitor_mode)
        tracked = requested_wandb_mode(self._get(self.config, "wandb")) != "disabled"
        return [self._best, last, *([WandbReport()] if tracked else [])]

    def how_to_resume(self) -> str:
        """Return the command that trains on, where there is a checkpoint."""
        last = None if self.directory is None else self.directory / "checkpoints/last.ckpt"
        if last is None or not last.is_file():
            return "stopped before the first checkpoint"
        resume = f"--config {self.directory}/config.yaml --ckpt_path {last}"
        return f"stopped; to train on: {_python()} -m cnnbench fit {resume}"

    def after_fit(self) -> None:
        """Print the best validation figure and the command that tests it.

        Raises:
            UserError: The checkpoint to resume from had reached the end of training already.
        """
        resumed = self.config["fit"].ckpt_path
        if resumed and not self.trained:
            end = f"trainer.max_epochs {self.trainer.max_epochs}, trainer.max_steps {self.trainer.max_steps}"
            raise UserError(f"{resumed} has reached the end of training already ({end}): raise it to train on")
        if (best := self._best.best_model_score) is None:
            return
        command = "test" if self.datamodule.has_test else "validate"
        trained = f"--config {self.directory}/config.yaml --ckpt_path {self.directory}/checkpoints/best.ckpt"
        self.say(
            best=f"{self.model.monitor} {best:.4f}, {self.directory}/checkpoints/best.ckpt",
            run=f"{self.directory}  (config.yaml, metrics.csv, checkpoints/)",
            **{command: f"{_python()} -m cnnbench {command} {trained}"},
        )


def _python() -> str:
    """Return how this Python was called, so that the printed command runs in the same environment."""
    return "python" if sys.prefix == sys.base_prefix else sys.executable
