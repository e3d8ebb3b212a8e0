"""What W&B shows at the end of a classifier's fit: confusion matrix, worst mistakes with their images."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from cnnbench.callbacks.best_report import BestReport
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


Collected = tuple[Tensor | None, list[Mistake]]
"""Confusion matrix, where there is one, and the worst mistakes."""


class WandbReport(BestReport):
    """Keeps the confusion matrix and the worst mistakes of the best validation, and logs them when fit ends.

    Args:
        worst: How many mistakes are shown, those of the greatest loss.
    """

    def __init__(self, worst: int = 32) -> None:
        super().__init__()
        self.worst = worst

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

    def collected(self) -> Collected:
        """Return the confusion matrix and the worst mistakes."""
        confusion = None if self._confusion is None else self._confusion.cpu()
        return confusion, self._mistakes

    def packed(self, collected: Collected) -> dict[str, Any]:
        """Return both as tensors and plain values."""
        confusion, mistakes = collected
        return {"confusion": confusion, "mistakes": [asdict(mistake) for mistake in mistakes]}

    def unpacked(self, packed: dict[str, Any]) -> Collected:
        """Return both as they were collected."""
        return packed["confusion"], [Mistake(**mistake) for mistake in packed["mistakes"]]

    def logged(self, collected: Collected, data: ImageDataModule) -> dict[str, Any]:
        """Return the table of the mistakes and, of few enough classes, the chart of the matrix."""
        confusion, mistakes = collected
        report = {"val/mistakes": _mistakes_table(mistakes, data)}
        if confusion is not None:
            report["val/confusion_matrix"] = _confusion_chart(confusion, list(data.class_names))
        return report

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
