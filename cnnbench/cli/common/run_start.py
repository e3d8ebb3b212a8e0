"""How a run begins: its settings are written, told to W&B, and shown to the user."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from cnnbench.callbacks.atomic import written_whole
from cnnbench.tasks.steps import images_per_step

if TYPE_CHECKING:
    from cnnbench.cli.common.trainer import RunCLI

_log = logging.getLogger(__name__)


class RunStart(Callback):
    """Tells all processes the run's directory, writes `config.yaml` there, and shows the run to W&B and the user."""

    def __init__(self, cli: "RunCLI") -> None:
        self.cli = cli
        self._resumed: dict[str, str] = {}  # line about where the run goes on

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note where the run goes on."""
        if self.cli.command == "fit":
            at = f"step {checkpoint['global_step']:,}, epoch {checkpoint['epoch'] + 1}"
            self._resumed = {"from": f"{trainer.ckpt_path}, {at}"}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the directory, and write the settings, so that a run that fails can be repeated."""
        self.cli.directory = Path(trainer.strategy.broadcast(str(self.cli.directory)))
        if trainer.is_global_zero:
            with written_whole(self.cli.directory / "config.yaml") as temporary:
                temporary.write_text(self.cli.resolved_config(), encoding="utf-8")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what is trained, and where it is kept."""
        images, optim = images_per_step(trainer), pl_module.optim
        epochs = trainer.estimated_stepping_batches * trainer.accumulate_grad_batches / trainer.num_training_batches
        if trainer.is_global_zero and optim.never_decays(epochs) and not (self.cli.short_run or trainer.fast_dev_run):
            rises = "the learning rate rises and never decays"
            _log.warning("optim.warmup_epochs is %g, and the run has %g: %s", optim.warmup_epochs, epochs, rises)
        self._begin(trainer, {"learning_rate": pl_module.learning_rate, "images_per_step": images})
        scaled = f" = {optim.lr:g} x {images:,} / {optim.base_batch_size:,}" if optim.base_batch_size else ""
        sizes = [(weight.numel(), weight.requires_grad) for weight in pl_module.network.parameters()]
        parameters, trained = sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)
        of_them = f", {trained:,} of them trained" if trained < parameters else ""
        data = trainer.datamodule
        self.cli.say(
            model=f"{pl_module.title}, {parameters:,} parameters{of_them}",
            data=f"{type(data).__name__}, {len(data.datasets['train']):,} training and "
            f"{len(data.datasets['val']):,} validation images, {data.num_classes} classes",
            steps=f"{images:,} images a step, learning rate {pl_module.learning_rate:g}{scaled}",
            **self._resumed,
            run=str(self.cli.directory),
            **{"W&B": self.cli.wandb_address()},
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that there is something to train: a checkpoint may be at the end already."""
        self.cli.trained = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, where nothing but validation runs."""
        if trainer.state.fn == "validate":
            self._begin(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._begin(trainer)

    def _begin(self, trainer: Trainer, derived: dict[str, float] | None = None) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_hyperparams({**yaml.safe_load(self.cli.resolved_config()), **(derived or {})})
