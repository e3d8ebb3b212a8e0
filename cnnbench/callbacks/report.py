"""What W&B shows at the end of a fit: confusion matrix, worst mistakes with their images, the best checkpoint."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from cnnbench.callbacks.tracking import QuietWandbLogger
from cnnbench.data import ImageDataModule

MAX_CLASSES = 100  # a confusion matrix of more is neither legible nor small, and not counted


@dataclass
class Mistake:
    """A wrongly classified image of the validation set."""

    index: int
    label: int
    predicted: int
    probability: float
    loss: float


class WandbReport(Callback):
    """Keeps the confusion matrix and the worst mistakes of the best validation, and logs them when fit ends.

    Args:
        worst: How many mistakes are shown, those of the greatest loss.
    """

    def __init__(self, worst: int = 32) -> None:
        self.worst = worst
        self._best: tuple[int, Tensor | None, list[Mistake]] | None = None  # epoch, confusion matrix, mistakes
        self._best_score = -float("inf")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        classes = trainer.datamodule.num_classes
        self._confusion: Tensor | None = None
        if classes <= MAX_CLASSES:
            self._confusion = torch.zeros(classes, classes, dtype=torch.int64, device=pl_module.device)
        self._mistakes: list[Mistake] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count the batch, and keep its worst mistakes."""
        logits = outputs["logits"]
        labels = batch["label"][: len(logits)]  # none, where another process counts the batch
        predicted = logits.argmax(dim=1)
        if self._confusion is not None:
            self._confusion += _counts(labels, predicted, len(self._confusion))
        wrong = (predicted != labels).nonzero().flatten()
        worst = wrong[outputs["losses"][wrong].argsort(descending=True)[: self.worst]]
        probabilities = logits[worst].softmax(dim=1).amax(dim=1)
        values = (
            batch["index"][worst],
            labels[worst],
            predicted[worst],
            probabilities,
            outputs["losses"][worst],
        )
        found = [Mistake(*row) for row in zip(*(value.tolist() for value in values), strict=True)]
        self._mistakes = self._worst(self._mistakes + found)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather over the processes."""
        if trainer.world_size > 1:
            if self._confusion is not None:
                torch.distributed.all_reduce(self._confusion)
            shares: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(shares, self._mistakes)
            self._mistakes = self._worst([mistake for share in shares for mistake in share])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep this validation if it is the best yet, as `best.ckpt` does."""
        if trainer.sanity_checking or pl_module.monitor not in trainer.callback_metrics:
            return
        score = trainer.callback_metrics[pl_module.monitor].item()
        score = score if pl_module.monitor_mode == "max" else -score
        if score > self._best_score:
            self._best_score = score
            confusion = None if self._confusion is None else self._confusion.cpu()
            self._best = (trainer.current_epoch, confusion, self._mistakes)

    def state_dict(self) -> dict[str, Any]:
        """Return what was kept, for a run that goes on from a checkpoint."""
        if self._best is None:
            return {}
        epoch, confusion, mistakes = self._best
        kept = [asdict(mistake) for mistake in mistakes]
        return {"score": self._best_score, "epoch": epoch, "confusion": confusion, "mistakes": kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what the run had kept."""
        if state_dict:
            self._best_score = state_dict["score"]
            mistakes = [Mistake(**mistake) for mistake in state_dict["mistakes"]]
            self._best = (state_dict["epoch"], state_dict["confusion"], mistakes)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was kept, and, online, the best checkpoint."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, QuietWandbLogger)]
        if not loggers or not trainer.is_global_zero or self._best is None:
            return
        logger = loggers[0]
        epoch, confusion, mistakes = self._best
        checkpoint = trainer.checkpoint_callback
        with logger.guarded("the report"), logger.staging():
            report = {"val/mistakes": _mistakes_table(mistakes, trainer.datamodule)}
            if confusion is not None:
                report["val/confusion_matrix"] = _confusion_chart(confusion, list(trainer.datamodule.class_names))
            logger.experiment.summary["best_epoch"] = epoch + 1
            logger.experiment.log(report)
            if logger.mode == "online" and checkpoint and Path(checkpoint.best_model_path).is_file():
                _log_checkpoint(logger.experiment, Path(checkpoint.best_model_path), epoch)

    def _worst(self, mistakes: list[Mistake]) -> list[Mistake]:
        return sorted(mistakes, key=lambda mistake: (-mistake.loss, mistake.index))[: self.worst]


def _counts(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Return how often each label was predicted as each class: (classes, classes)."""
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


def _confusion_chart(confusion: Tensor, names: list[str]) -> Any:
    import wandb

    labels, predicted = confusion.nonzero(as_tuple=True)
    counts = confusion[labels, predicted]
    return wandb.plot.confusion_matrix(
        y_true=labels.repeat_interleave(counts).tolist(),
        preds=predicted.repeat_interleave(counts).tolist(),
        class_names=names,
        title="Confusion matrix of the validation set",
    )


def _mistakes_table(mistakes: list[Mistake], data: ImageDataModule) -> Any:
    """Return the mistakes with their images, read again from the validation set as evaluation sees them."""
    import wandb

    images = [data.datasets["val"][mistake.index]["image"] for mistake in mistakes]  # uint8 (C, H, W) each
    rows = [
        [
            wandb.Image(image.permute(1, 2, 0).squeeze(2).numpy()),
            data.index_name("val", mistake.index),
            data.class_names[mistake.label],
            data.class_names[mistake.predicted],
            mistake.probability,
            mistake.loss,
        ]
        for image, mistake in zip(images, mistakes, strict=True)
    ]
    return wandb.Table(columns=["image", "name", "label", "predicted", "probability", "loss"], data=rows)


def _log_checkpoint(run: Any, path: Path, epoch: int) -> None:
    """Upload the file from where it lies: wandb would copy it into two folders below the user's home."""
    import wandb

    artifact = wandb.Artifact(f"{run.id}-best", type="model", metadata={"epoch": epoch + 1})
    artifact.add_file(str(path), policy="immutable", skip_cache=True)
    run.log_artifact(artifact, aliases=["best"])
