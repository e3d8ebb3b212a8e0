"""What `fit`, `validate`, `test` and `predict` share: Lightning's command line around a run's own directory."""

import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

import cnnbench.callbacks.finetuning  # noqa: F401, which a recipe can name once it is imported
from cnnbench.callbacks.checkpoint import AtomicCheckpointIO, check_checkpoint_path
from cnnbench.callbacks.progress import RunProgress
from cnnbench.callbacks.tracking import QuietWandbLogger, run_loggers
from cnnbench.cli.common.from_checkpoint import CheckpointAlone, recorded_classes
from cnnbench.cli.common.processes import end_others, is_told_elsewhere
from cnnbench.cli.common.resume import Resume
from cnnbench.cli.common.run_directory import create_run_directory, recipe_name, remove_if_unused
from cnnbench.cli.common.run_start import RunStart
from cnnbench.data import ImageDataModule
from cnnbench.errors import StoppedError, ToldElsewhereError, UserError
from cnnbench.tasks.base import Task
from cnnbench.tasks.lean_loop import use_lean_loop
from cnnbench.tasks.recipe.mistakes import users_mistake
from cnnbench.tasks.recipe.parser import Parser, configs_first
from cnnbench.tasks.recipe.quiet import quieten
from cnnbench.tasks.recipe.trainer_settings import as_list, check_trainer_settings
from cnnbench.tasks.record import CLASSES

_TRAINER_DEFAULTS = {"default_root_dir": "runs", "enable_model_summary": False}


class RunCLI(LightningCLI):
    """Parses a recipe and options, and runs one method of the Trainer in a directory of its own.

    Args:
        args: Command and options; None: those of the process.

    Raises:
        UserError: Something about them is wrong; a run that did not begin leaves no directory.
        StoppedError: The run was stopped, by Ctrl-C or by SIGTERM.
    """

    command: ClassVar[str]
    directory: Path | None = None
    resume: Resume | None = None  # what the run goes on from
    trained = False  # whether there was anything to train

    def __init__(self, args: Sequence[str] | None = None) -> None:
        quieten()
        try:
            self._run(args)
        except BaseException as error:
            code = _signal_of(error)
            mistake = users_mistake(error, self.directory, self.trained)
            instead = StoppedError(self.how_to_resume(), 128 + code) if code else mistake
            trainer = getattr(self, "trainer", None)
            world_size = 1 if trainer is None else trainer.world_size
            if isinstance(error, Exception) and is_told_elsewhere(instead, world_size, self.directory):
                instead = ToldElsewhereError()
            if trainer is not None:
                end_others(trainer)
            if self.directory is not None:
                remove_if_unused(self.directory, self._root)
            if instead is None or instead is error:
                raise
            raise instead from error

    def _run(self, args: Sequence[str] | None) -> None:
        super().__init__(
            Task,
            ImageDataModule,
            save_config_callback=None,
            trainer_defaults=_TRAINER_DEFAULTS,
            seed_everything_default=0,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            parser_kwargs={"prog": "python -m cnnbench"},
            args=None if args is None else list(args),
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def subcommands(self) -> dict[str, set[str]]:
        """Only the command that runs: the parsers of the others would cost their time."""
        return {self.command: super().subcommands()[self.command]}

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Set up the parsers, and tell the outer one of the command's."""
        super().setup_parser(*args, **kwargs)
        self.parser.command_parser = self._parser(self.command)

    def add_arguments_to_parser(self, parser: Parser) -> None:
        """Add what belongs to no class: tracking, compilation, memory format."""
        parser.add_run_options()

    def parse_arguments(self, parser: Parser, args: Any) -> None:
        """Parse, options counting more than configs wherever they stand, and refuse what jsonargparse lets pass."""
        args = configs_first(sys.argv[1:] if args is None else args)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LightningCLI's args parameter is intended to run from within Python")
            super().parse_arguments(parser, args)
        for config in self._config_files():
            self._parser(self.command).check_top_level(yaml.safe_load(config.read_text()))
        settings = self.config[self.command]
        parser.check_values(settings)
        check_trainer_settings(settings.trainer, settings.seed_everything)

    def _parse_ckpt_path(self) -> None:
        """Take nothing from the checkpoint: the recipe says what is built, and the task compares both."""

    def before_instantiate_classes(self) -> None:
        """Refuse a checkpoint that is not there before anything is built."""
        settings = self.config[self.command]
        if settings.get("ckpt_path"):
            check_checkpoint_path(Path(settings.ckpt_path), Path(settings.trainer.default_root_dir))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the Trainer with the run's directory, loggers, checkpoints and progress."""
        settings = self._get(self.config_init, "trainer")
        self.model.continues = bool(self.config[self.command].get("ckpt_path"))
        self._root = Path(settings["default_root_dir"])
        name = recipe_name(self._recipe(), self._root, self.model.hparams.name)
        continued = None if self.resume is None else self.resume.directory
        self.directory = continued or create_run_directory(self._root, name, self.command)
        if settings["logger"] in (None, True):
            kwargs["logger"] = self.run_loggers(name)
        callbacks = [*as_list(settings["callbacks"]), RunStart(self), *self.run_callbacks()]
        if settings["enable_progress_bar"] is not False:
            callbacks.append(RunProgress())
        plugins = [*as_list(settings["plugins"]), AtomicCheckpointIO()]
        trainer = super().instantiate_trainer(callbacks=callbacks, plugins=plugins, **kwargs)
        use_lean_loop(trainer)
        return trainer

    def how_to_resume(self) -> str:
        """Return what to tell a user who stopped the run."""
        return "stopped"

    def _recipe(self) -> Path | None:
        """Return the file that the run is named after."""
        configs = self._config_files()
        return Path(str(configs[0])) if configs else None

    def _config_files(self) -> list[Any]:
        return [path for path in self.config[self.command].get("config") or [] if path is not None]

    def run_callbacks(self) -> list[Callback]:
        """Return the callbacks of this command."""
        return []

    def run_loggers(self, name: str) -> list[Logger] | bool:
        """Return the loggers of this command."""
        return run_loggers(
            self.directory,
            self._get(self.config, "wandb"),
            logged=0 if self.resume is None else self.resume.logged,
            reports=0 if self.resume is None else self.resume.ended,
            name=f"{name}/{self.directory.name}",
            group=name,
            job_type=self.command,
        )

    def resolved_config(self) -> str:
        """Return all settings of the run as YAML that the commands accept.

        A run that is continued has those that it began with, and with them repeats all of it.
        """
        settings = self.config[self.command]
        if self.resume is not None and self.resume.directory is not None:
            settings = settings.clone()
            settings.ckpt_path = self.resume.ckpt_path
        return self._parser(self.command).dump(settings, skip_unset=False)

    @rank_zero_only
    def say(self, **lines: str) -> None:
        """Print a line each: what it is, and its value; a value is never broken, so that it can be copied."""
        width = max(map(len, lines))
        for name, value in lines.items():
            print(f"{name:<{width}}  {value}", flush=True)

    def wandb_address(self) -> str:
        """Return where the W&B run is, or that there is none."""
        loggers = [logger for logger in self.trainer.loggers if isinstance(logger, QuietWandbLogger)]
        return loggers[0].where if loggers else "disabled"


class EvaluationCLI(RunCLI):
    """A command that needs trained weights.

    Given a checkpoint and no recipe, it takes model and data from what the checkpoint records.
    """

    _alone: CheckpointAlone | None = None
    images_of_ones_own = False  # whether a data folder without a data module is one of images, not the run's own data

    def parse_arguments(self, parser: Parser, args: Any) -> None:
        """Parse; where there is a checkpoint and no recipe, its settings stand for those that are not given."""
        words = sys.argv[1:] if args is None else [str(word) for word in args]
        if len(words) == 1:
            checkpoint = "a checkpoint, --ckpt_path runs/…/checkpoints/best.ckpt"
            raise UserError(f"{self.command} needs {checkpoint}, or a recipe, --config FILE")
        self._alone = CheckpointAlone.of(words)
        if self._alone is not None:
            check_checkpoint_path(self._alone.path, Path(_TRAINER_DEFAULTS["default_root_dir"]))
            self._parser(self.command).set_defaults(self._alone.settings(self.images_of_ones_own))
        super().parse_arguments(parser, args)

    def _recipe(self) -> Path | None:
        """Return the config of the run that the checkpoint lies in, whether it is still there or not."""
        alone = self._alone
        return super()._recipe() if alone is None else alone.path.absolute().parent.parent / "config.yaml"

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> Parser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        left_to_others = {"verbose": False, "return_predictions": False}  # `print_metrics`, and what writes predictions
        accepted = self._subcommand_method_arguments[subcommand]
        parser.set_defaults({name: value for name, value in left_to_others.items() if name in accepted})
        return parser

    def before_instantiate_classes(self) -> None:
        """Refuse to evaluate weights that nobody trained; take the classes of a folder from those of its model.

        Raises:
            UserError: There is neither a checkpoint nor `pretrained` nor `weights`.
        """
        super().before_instantiate_classes()
        settings = self.config[self.command]
        arguments = settings.data.init_args
        unknown = [key for key in CLASSES if arguments.get(key, ()) is None]
        if settings.get("ckpt_path") and unknown:
            known = recorded_classes(Path(settings.ckpt_path))
            for key in unknown:
                arguments[key] = known.get(key)
        model = settings.model.init_args
        if not (settings.get("ckpt_path") or model.get("pretrained") or model.get("weights")):
            raise UserError(
                f"{self.command} needs trained weights: --ckpt_path runs/…/checkpoints/best.ckpt, "
                "--model.weights FILE, or --model.pretrained true for the published ones"
            )

    def print_metrics(self) -> None:
        """Print the metrics of the evaluation, and where they are kept."""
        self.say(
            **{key: f"{value:.6f}" for key, value in self.trainer.callback_metrics.items()},
            run=str(self.directory),
        )


def _signal_of(error: BaseException) -> int:
    """Return the signal that ended a run, 0 where none did; Lightning turns both into an exit."""
    if isinstance(error, SIGTERMException):
        return signal.SIGTERM
    stopped = isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    return signal.SIGINT if stopped else 0
