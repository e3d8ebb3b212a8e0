"""What W&B shows at the end of a fit: confusion matrix, worst mistakes with their images, the best checkpoint."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from cnnbench.callbacks.tracking import QuietWandbLogger

MAX_CLASSES = 100  # a confusion matrix of more is neither legible nor small


@dataclass
class Mistake:
    """A wrongly classified image of the validation set."""

    index: int
    label: int
    predicted: int
    probability: float
    loss: float
    image: Tensor  # (C, H, W), normalised


class WandbReport(Callback):
    """Keeps the confusion matrix and the worst mistakes of the best validation, and logs them when fit ends.

    Args:
        worst: How many mistakes are shown, those of the greatest loss.
    """

    def __init__(self, worst: int = 32) -> None:
        self.worst = worst
        self._best: tuple[int, Tensor, list[Mistake]] | None = None
        self._best_score = -float("inf")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        classes = trainer.datamodule.num_classes
        self._confusion = torch.zeros(classes, classes, dtype=torch.int64, device=pl_module.device)
        self._mistakes: list[Mistake] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count the batch, and keep its worst mistakes."""
        logits = outputs["logits"]
        labels = batch["label"][: len(logits)]  # none, where another process counts the batch
        predicted = logits.argmax(dim=1)
        classes = len(self._confusion)
        counts = torch.bincount(labels * classes + predicted, minlength=classes**2)
        self._confusion += counts.view(classes, classes)
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
        self._mistakes += [
            Mistake(*row, image=batch["image"][position].float().cpu().clone())
            for position, *row in zip(worst.tolist(), *(value.tolist() for value in values), strict=True)
        ]
        self._mistakes = self._worst(self._mistakes)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather over the processes."""
        if trainer.world_size > 1:
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
            self._best = (trainer.current_epoch, self._confusion.cpu(), self._mistakes)

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
        names = list(trainer.datamodule.class_names)
        report = {"val/mistakes": _mistakes_table(mistakes, trainer.datamodule)}
        if len(names) <= MAX_CLASSES:
            report["val/confusion_matrix"] = _confusion_chart(confusion, names)
        checkpoint = trainer.checkpoint_callback
        with logger.guarded("the report"), logger.staging():
            logger.experiment.summary["best_epoch"] = epoch + 1
            logger.experiment.log(report)
            if logger.mode == "online" and checkpoint and Path(checkpoint.best_model_path).is_file():
                _log_checkpoint(logger.experiment, Path(checkpoint.best_model_path), epoch)

    def _worst(self, mistakes: list[Mistake]) -> list[Mistake]:
        return sorted(mistakes, key=lambda mistake: (-mistake.loss, mistake.index))[: self.worst]


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


def _mistakes_table(mistakes: list[Mistake], data: Any) -> Any:
    import wandb

    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (data.mean, data.std))
    rows = [
        [
            wandb.Image(
                ((mistake.image * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).squeeze(2).numpy()
            ),
            data.index_name("val", mistake.index),
            data.class_names[mistake.label],
            data.class_names[mistake.predicted],
            mistake.probability,
            mistake.loss,
        ]
        for mistake in mistakes
    ]
    return wandb.Table(columns=["image", "name", "label", "predicted", "probability", "loss"], data=rows)


def _log_checkpoint(run: Any, path: Path, epoch: int) -> None:
    """Upload the file from where it lies: wandb would copy it into two folders below the user's home."""
    import wandb

    artifact = wandb.Artifact(f"{run.id}-best", type="model", metadata={"epoch": epoch + 1})
    artifact.add_file(str(path), policy="immutable", skip_cache=True)
    run.log_artifact(artifact, aliases=["best"])
