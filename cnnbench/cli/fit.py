"""`python -m cnnbench fit`: train a model by a recipe, and keep its best and last checkpoint."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from cnnbench.callbacks.atomic import remove_abandoned
from cnnbench.callbacks.checkpoint import BestCheckpoint
from cnnbench.callbacks.checkpoint_files import LAST
from cnnbench.callbacks.last_checkpoint import Interval, LastCheckpoint
from cnnbench.callbacks.report import WandbReport
from cnnbench.callbacks.tracking import requested_wandb_mode
from cnnbench.cli.common.resume import last_checkpoint, resume_from
from cnnbench.cli.common.run_directory import recipe_name
from cnnbench.cli.common.trainer import RunCLI


def run(args: Sequence[str] | None) -> None:
    """Train."""
    FitCLI(args)


class FitCLI(RunCLI):
    """Trains, then says where everything is and how to test it."""

    command = "fit"

    def before_instantiate_classes(self) -> None:
        """Find what to train on from, refuse it where it does not fit, and clear away what a killed run left there."""
        settings = self.config[self.command]
        self._every = Interval.parse(settings.checkpoint_every)
        resolved = yaml.safe_load(self.resolved_config())
        if settings.ckpt_path == "last":
            settings.ckpt_path = str(self._last_checkpoint(resolved))
        super().before_instantiate_classes()
        if not settings.ckpt_path:
            return
        self.resume = resume_from(Path(settings.ckpt_path), resolved)
        if self.resume.directory is not None and rank_zero_only.rank == 0:
            for directory in (self.resume.directory, self.resume.checkpoint.parent):
                remove_abandoned(directory)

    def _last_checkpoint(self, settings: dict[str, Any]) -> Path:
        """Return the checkpoint to train on from; tell of damaged ones that were passed over."""
        root = Path(settings["trainer"]["default_root_dir"])
        name = recipe_name(self._recipe(), root, settings["model"]["init_args"]["name"])
        path, damaged = last_checkpoint(root, name, settings)
        for file, reason in damaged.items():
            self.say(damaged=f"{file}: {reason}; training goes on from {path}")
        return path

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the Trainer, and refuse a checkpoint that another number of processes trained."""
        trainer = super().instantiate_trainer(**kwargs)
        if self.resume is not None:
            self.resume.check_world_size(trainer.world_size)
        return trainer

    def run_callbacks(self) -> list[Callback]:
        """Return checkpoints and, unless W&B is off, the report to it."""
        directory = self.directory / "checkpoints"
        self._best = BestCheckpoint(directory, self.model.monitor, self.model.monitor_mode)
        last = LastCheckpoint(directory / LAST, self._every)
        tracked = requested_wandb_mode(self._get(self.config, "wandb")) != "disabled"
        return [self._best, last, *([WandbReport()] if tracked else [])]

    def how_to_resume(self) -> str:
        """Return the command that trains on, where there is a checkpoint."""
        last = None if self.directory is None else self.directory / "checkpoints" / LAST
        if last is None or not last.is_file():
            return "stopped before the first checkpoint"
        resume = f"--config {self.directory}/config.yaml --ckpt_path {last}"
        return f"stopped; to train on: {_python()} -m cnnbench fit {resume}"

    def after_fit(self) -> None:
        """Print the best validation figure and the command that tests it."""
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
