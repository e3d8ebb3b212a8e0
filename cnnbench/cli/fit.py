"""`python -m cnnbench fit`: train a model by a recipe, and keep its best and last checkpoint."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from cnnbench.callbacks.checkpoint import BestCheckpoint
from cnnbench.callbacks.checkpoint_files import LAST
from cnnbench.callbacks.detection_report import DetectionReport
from cnnbench.callbacks.last_checkpoint import Interval, LastCheckpoint
from cnnbench.callbacks.non_finite import StopOnNonFinite
from cnnbench.callbacks.report import WandbReport
from cnnbench.callbacks.segmentation_report import SegmentationReport
from cnnbench.callbacks.tracking import requested_wandb_mode, run_loggers
from cnnbench.cli.common import short_runs
from cnnbench.cli.common.resume import continued_by, last_checkpoint, resume_from
from cnnbench.cli.common.run_directory import recipe_name
from cnnbench.cli.common.run_lock import alone_in
from cnnbench.cli.common.trainer import RunCLI
from cnnbench.tasks import ClassificationTask, DetectionTask, MultiTaskTask, SegmentationTask
from cnnbench.tasks.recipe.parser import Parser
from cnnbench.tasks.recipe.trainer_settings import as_list

_REPORTS = {  # to W&B
    ClassificationTask: WandbReport,
    DetectionTask: DetectionReport,
    MultiTaskTask: WandbReport,
    SegmentationTask: SegmentationReport,
}


def run(args: Sequence[str] | None) -> None:
    """Train."""
    FitCLI(args)


class FitCLI(RunCLI):
    """Trains, then says where everything is and how to test it."""

    command = "fit"
    short_run: tuple[str, Any] | None = None  # option and value of what is asked for instead of training
    _last: LastCheckpoint | None = None

    def __init__(self, args: Sequence[str] | None = None) -> None:
        with ExitStack() as self._held:  # until the run has ended
            super().__init__(args)

    def add_arguments_to_parser(self, parser: Parser) -> None:
        """Add what asks for something else than training."""
        super().add_arguments_to_parser(parser)
        short_runs.add_options(parser)

    def before_instantiate_classes(self) -> None:
        """Learn whether it is to train and from what on, refuse what does not fit, clear away what a kill left."""
        settings = self.config[self.command]
        self.short_run = short_runs.take_choice(settings)
        self._every = Interval.parse(settings.checkpoint_every)
        resolved = yaml.safe_load(self.resolved_config())
        if settings.ckpt_path == "last":
            settings.ckpt_path = str(self._last_checkpoint(resolved))
        super().before_instantiate_classes()
        if not settings.ckpt_path:
            return
        checkpoint = Path(settings.ckpt_path)
        if (run := continued_by(checkpoint)) is not None:
            self._hold(run)  # before it is read, so that nobody writes it meanwhile
        self.resume = resume_from(checkpoint, resolved)
        if rank_zero_only.rank == 0:
            self.resume.clear_away()

    @rank_zero_only
    def _hold(self, directory: Path) -> None:
        """Train alone there."""
        self._held.enter_context(alone_in(directory))

    def _last_checkpoint(self, settings: dict[str, Any]) -> Path:
        """Return the checkpoint to train on from; tell of damaged ones that were passed over."""
        root = Path(settings["trainer"]["default_root_dir"])
        name = recipe_name(self._recipe(), root, settings["model"]["init_args"]["name"])
        path, damaged = last_checkpoint(root, name, settings)
        for file, reason in damaged.items():
            self.say(damaged=f"{file}: {reason}; training goes on from {path}")
        return path

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the Trainer, of a few steps where it is not to train.

        Raises:
            UserError: The checkpoint was trained by another number of processes.
        """
        if self.short_run:
            given = self._get(self.config_init, "trainer")
            callbacks = as_list(given["callbacks"])
            kwargs |= short_runs.trainer_settings(self.short_run[0], given["accumulate_grad_batches"], callbacks)
        trainer = super().instantiate_trainer(**kwargs)
        if self.resume is None or self.resume.directory is None:
            self._hold(self.directory)
        if self.resume is not None:
            self.resume.check_world_size(trainer.world_size)
        return trainer

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
        self._best = BestCheckpoint(directory, self.model.monitor, self.model.monitor_mode)
        self._last = LastCheckpoint(directory / LAST, self._every)
        tracked = requested_wandb_mode(self._get(self.config, "wandb")) != "disabled"
        given = as_list(self._get(self.config_init, "trainer")["callbacks"])
        stops = [] if any(isinstance(callback, StopOnNonFinite) for callback in given) else [StopOnNonFinite()]
        return [self._best, self._last, *stops, *(self._reports() if tracked else [])]

    def _reports(self) -> list[Callback]:
        if isinstance(self.model, MultiTaskTask) and "classification" not in self.model.hparams.heads:
            return []  # no classes to confuse
        return [report() for task, report in _REPORTS.items() if isinstance(self.model, task)]

    def how_to_resume(self) -> str:
        """Return the command that trains on, where there is a checkpoint."""
        last = None if self.directory is None else self.directory / "checkpoints" / LAST
        if last is None or not last.is_file():
            return "stopped before the first checkpoint"
        step = f" from step {self._last.saved_step}" if self._last and self._last.saved_step else ""
        return f"stopped; to train on{step}: {_command('fit', self.directory, last)}"

    def after_fit(self) -> None:
        """Print the best validation figure and the command that tests it, or where the weights are without one."""
        run = f"{self.directory}  (config.yaml, metrics.csv, checkpoints/)"
        if (best := self._best.best_model_score) is None:
            if self._last.path.is_file():
                self.say(last=f"{self._last.path}; nothing was validated, so there is no best", run=run)
            return
        command = "test" if self.datamodule.has_test else "validate"
        checkpoint = self.directory / "checkpoints/best.ckpt"
        self.say(
            best=f"{self.model.monitor} {best:.4f}, {checkpoint}",
            run=run,
            **{command: _command(command, self.directory, checkpoint)},
        )


def _command(name: str, run: Path, checkpoint: Path) -> str:
    """Return a command on a run as a shell takes it, by the Python of this environment."""
    python = "python" if sys.prefix == sys.base_prefix else sys.executable
    words = (python, "-m", "cnnbench", name, "--config", run / "config.yaml", "--ckpt_path", checkpoint)
    return shlex.join(map(str, words))
