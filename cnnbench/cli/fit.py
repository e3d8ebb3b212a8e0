"""`python -m cnnbench fit`: train a model by a recipe, and keep its best and last checkpoint."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from cnnbench.callbacks.atomic import remove_abandoned
from cnnbench.callbacks.checkpoint import best_and_last
from cnnbench.callbacks.non_finite import StopOnNonFinite
from cnnbench.callbacks.report import WandbReport
from cnnbench.callbacks.tracking import requested_wandb_mode, run_loggers
from cnnbench.cli.common import short_runs
from cnnbench.cli.common.trainer import RunCLI, as_list
from cnnbench.errors import UserError
from cnnbench.tasks.recipe.parser import Parser


def run(args: Sequence[str] | None) -> None:
    """Train."""
    FitCLI(args)


class FitCLI(RunCLI):
    """Trains, then says where everything is and how to test it."""

    command = "fit"
    short_run: tuple[str, Any] | None = None  # option and value of what is asked for instead of training

    def add_arguments_to_parser(self, parser: Parser) -> None:
        """Add what asks for something else than training."""
        super().add_arguments_to_parser(parser)
        short_runs.add_options(parser)

    def before_instantiate_classes(self) -> None:
        """Learn whether it is to train; clear away what a killed run left half-written beside its checkpoint."""
        super().before_instantiate_classes()
        self.short_run = short_runs.take_choice(self.config[self.command])
        if (path := self.config[self.command].ckpt_path) and rank_zero_only.rank == 0:
            remove_abandoned(Path(path).parent)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the Trainer, of a few steps where it is not to train."""
        if self.short_run:
            given = self._get(self.config_init, "trainer")
            callbacks = as_list(given["callbacks"])
            kwargs |= short_runs.trainer_settings(self.short_run[0], given["accumulate_grad_batches"], callbacks)
        return super().instantiate_trainer(**kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        if self.short_run is None:
            super()._run_subcommand(subcommand)
        else:
            name, value = self.short_run
            short_runs.SHORT_RUNS[name](self, value)

    def run_loggers(self, name: str) -> list[Logger] | bool:
        """Return the loggers; a short run leaves W&B alone."""
        return run_loggers(self.directory, "disabled") if self.short_run else super().run_loggers(name)

    def run_callbacks(self) -> list[Callback]:
        """Return checkpoints, what stops a run that is lost, and, unless W&B is off, the report to it."""
        if self.short_run:
            return []
        directory = self.directory / "checkpoints"
        self._best, last = best_and_last(directory, self.model.monitor, self.model.monitor_mode)
        tracked = requested_wandb_mode(self._get(self.config, "wandb")) != "disabled"
        given = as_list(self._get(self.config_init, "trainer")["callbacks"])
        stops = [] if any(isinstance(callback, StopOnNonFinite) for callback in given) else [StopOnNonFinite()]
        return [self._best, last, *stops, *([WandbReport()] if tracked else [])]

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
