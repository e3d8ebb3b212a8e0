"""What W&B shows of the best validation when a fit ends, and the best checkpoint."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from cnnbench.callbacks.tracking import QuietWandbLogger


class BestReport(Callback, ABC):
    """Keeps what a subclass collects of the best validation, and logs it when fit ends."""

    def __init__(self) -> None:
        self._best: tuple[int, Any] | None = None  # epoch, and what was collected
        self._best_score = -float("inf")

    @abstractmethod
    def collected(self) -> Any:
        """Return what the validation that has just ended is remembered by, in the first process of all."""

    @abstractmethod
    def logged(self, collected: Any, data: Any) -> dict[str, Any]:
        """Return what W&B is to show of it, by name, for the data module `data`."""

    def packed(self, collected: Any) -> dict[str, Any]:
        """Return it as tensors and plain values, for a checkpoint."""
        return collected

    def unpacked(self, packed: dict[str, Any]) -> Any:
        """Return what a checkpoint holds as it was collected."""
        return packed

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep this validation if it is the best yet, as `best.ckpt` does."""
        if trainer.sanity_checking or pl_module.monitor not in trainer.callback_metrics:
            return
        score = trainer.callback_metrics[pl_module.monitor].item()
        score = score if pl_module.monitor_mode == "max" else -score
        if score > self._best_score:
            self._best_score = score
            self._best = (trainer.current_epoch, self.collected())

    def state_dict(self) -> dict[str, Any]:
        """Return what was kept, for a run that goes on from a checkpoint."""
        if self._best is None:
            return {}
        epoch, collected = self._best
        return {"score": self._best_score, "epoch": epoch, **self.packed(collected)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what the run had kept."""
        if state_dict:
            packed = {name: value for name, value in state_dict.items() if name not in ("score", "epoch")}
            self._best_score = state_dict["score"]
            self._best = (state_dict["epoch"], self.unpacked(packed))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was kept, and, online, the best checkpoint."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, QuietWandbLogger)]
        if not loggers or not trainer.is_global_zero or self._best is None:
            return
        logger = loggers[0]
        epoch, collected = self._best
        checkpoint = trainer.checkpoint_callback
        with logger.guarded("the report"), logger.staging():
            logger.experiment.summary["best_epoch"] = epoch + 1
            logger.experiment.log(self.logged(collected, trainer.datamodule))
            if logger.mode == "online" and checkpoint and Path(checkpoint.best_model_path).is_file():
                _log_checkpoint(logger.experiment, Path(checkpoint.best_model_path), epoch)


def _log_checkpoint(run: Any, path: Path, epoch: int) -> None:
    """Upload the file from where it lies: wandb would copy it into two folders below the user's home."""
    import wandb

    artifact = wandb.Artifact(f"{run.id}-best", type="model", metadata={"epoch": epoch + 1})
    artifact.add_file(str(path), policy="immutable", skip_cache=True)
    run.log_artifact(artifact, aliases=["best"])
