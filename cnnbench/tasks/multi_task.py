"""Several tasks at once: classes, boxes and embeddings over one backbone."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from cnnbench.data.base import counted
from cnnbench.data.localization import LocalizationDataModule
from cnnbench.errors import UserError, did_you_mean
from cnnbench.layers.precision import at_least_float32
from cnnbench.models.multi_task import check_heads, create_multi_task
from cnnbench.tasks.base import Task
from cnnbench.tasks.multi_task_losses import (
    DEFAULT_EMBEDDING_LOSS,
    EMBEDDING_LOSSES,
    WEIGHTINGS,
    BoxLoss,
    check_embedding_loss,
    effective_weights,
    weighted_sum,
)
from cnnbench.tasks.multi_task_metrics import MultiTaskMetrics
from cnnbench.tasks.optim import OptimConfig

_STAGES = ("val", "test")
_log = logging.getLogger(__name__)
DEFAULT_HEADS = {"classification": 1.0, "box": 1.0, "embedding": 1.0}


class MultiTaskTask(Task):
    """One backbone that tells an image's class, the box of what it shows, and an embedding of it.

    Training logs `train/loss`, the weighted sum, `train/loss_HEAD` of each head, with learned weights
    `train/weight_HEAD`, `train/lr` and `train/grad_norm` every `log_every_n_steps` steps. Evaluation logs `val/…` and
    `test/…`: of classification `accuracy` and `loss_classification` (cross entropy without label smoothing), of boxes
    `box_iou`, the mean intersection over union, and `loss_box`, of embeddings `recall_at_1`, how often the nearest
    other image is of the same class, and `score`, the mean of the heads' figures. Each sample counts once, whatever the
    number of processes.

    Args:
        name: Name of the classifier that is the backbone, as `python -m cnnbench models` lists them.
        source: Who wrote it: `cnnbench` (ours) or `timm`.
        pretrained: Start from the published weights of the backbone.
        weights: Start from the weights in this file instead, of a network of several tasks or of the classifier alone,
            `.safetensors`, `.pth` or a run's checkpoint; heads that it does not have start anew, and so do learned
            weights of the losses.
        num_classes: Number of classes; None: the data module tells.
        in_chans: Channels of the images; None: the data module tells.
        model_args: `embedding_dim`, `box_channels`, `box_grid`, and further arguments of the classifier.
        heads: Weights of the losses of `classification`, `box` and `embedding`; those not named do not exist. None: all
            three, equally.
        weighting: `fixed`: the weights of `heads`; `uncertainty`: these, times factors that are learned (Kendall et al.
            2018, arXiv:1705.07115).
        trained_heads: The heads that are trained, others stay as they are; None: all.
        freeze_backbone: Whether the backbone stays as it is, its BatchNorm's statistics too.
        embedding_loss: `supcon` (Khosla et al. 2020, arXiv:2004.11362), or `cosine`, pair by pair; both over the batch
            of a process.
        label_smoothing: Share of the target spread evenly over all classes, in training only.
        optim: Optimiser and schedule; None: AdamW with cosine decay.
        compile: Compile the network with `torch.compile`.
        channels_last: Keep weights and images in channels-last memory format.

    Raises:
        UserError: The model, its source, a head or one of the arguments does not exist, or a value is out of range.
    """

    monitor = "val/score"
    monitor_mode = "max"
    epoch_figures = ("train/loss", "val/accuracy", "val/box_iou", "val/recall_at_1", "val/score")

    def __init__(
        self,
        name: str,
        source: str = "cnnbench",
        pretrained: bool = False,
        weights: str | None = None,
        num_classes: int | None = None,
        in_chans: int | None = None,
        model_args: dict[str, Any] | None = None,
        heads: dict[str, float] | None = None,
        weighting: str = "fixed",
        trained_heads: list[str] | None = None,
        freeze_backbone: bool = False,
        embedding_loss: str = DEFAULT_EMBEDDING_LOSS,
        label_smoothing: float = 0.0,
        optim: OptimConfig | None = None,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        heads = dict(DEFAULT_HEADS if heads is None else heads)
        _check(heads, weighting, trained_heads)
        check_embedding_loss(embedding_loss, list(heads))
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing is {label_smoothing}, but must be at least 0 and below 1")
        super().__init__(
            *(name, source, pretrained, weights, num_classes, in_chans, model_args, optim, compile, channels_last),
            heads=heads,
            weighting=weighting,
            trained_heads=trained_heads,
            freeze_backbone=freeze_backbone,
            embedding_loss=embedding_loss,
            label_smoothing=label_smoothing,
        )

    # ------------------------------------------------------------------ building

    def network_builder(self) -> Callable[..., nn.Module]:
        """Return what builds the network."""
        hparams = self.hparams
        return partial(
            create_multi_task,
            hparams.name,
            heads=list(hparams.heads),
            source=hparams.source,
            learns_weights=hparams.weighting == "uncertainty",
        )

    @property
    def title(self) -> str:
        """What is trained, and who wrote it."""
        return f"{', '.join(self.hparams.heads)} over {super().title}"

    @property
    def trained_heads(self) -> list[str]:
        """The heads that are trained."""
        wanted = self.hparams.trained_heads
        return [head for head in self.hparams.heads if wanted is None or head in wanted]

    def check_data(self, data: LightningDataModule) -> None:
        """Refuse data without boxes, where they are to be learned or judged, and images that are too small."""
        predicts = self._trainer is not None and self.trainer.state.fn == "predict"
        if "box" in self.hparams.heads and not isinstance(data, LocalizationDataModule) and not predicts:
            has = "DigitLocalizationDataModule has; or name other heads"
            raise UserError(f"{type(data).__name__} has no box an image for the head box; {has}")
        super().check_data(data)

    def configure_model(self) -> None:
        """Build the network for the data, with what is not trained as constants."""
        is_new = self.network is None
        super().configure_model()
        hparams = self.hparams
        begins = is_new and self.global_rank == 0 and not (hparams.pretrained or hparams.weights or self.has_checkpoint)
        if begins and hparams.freeze_backbone:
            _log.warning("the frozen backbone has random weights: give weights or pretrained to start from")
        self.network.freeze(self.hparams.freeze_backbone, sorted({*self.hparams.heads} - {*self.trained_heads}))

    def configure_head(self, num_classes: int) -> None:
        """Create the losses, and the metrics of each stage."""
        hparams = self.hparams
        self.train_losses = nn.ModuleDict(
            {
                "classification": nn.CrossEntropyLoss(label_smoothing=hparams.label_smoothing),
                "box": BoxLoss(),
                "embedding": EMBEDDING_LOSSES[hparams.embedding_loss](),
            }
        )
        self.metrics = nn.ModuleDict({f"{stage}_metrics": MultiTaskMetrics(hparams.heads) for stage in _STAGES})

    # ------------------------------------------------------------------ steps

    def forward(self, images: Tensor, heads: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return what the heads say of normalised images (B, C, H, W), see `MultiTaskNetwork.forward`."""
        if self.hparams.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.network(images, heads)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the weighted sum of the losses of the heads that are trained."""
        outputs = self(batch["image"], self.trained_heads)
        found = {head: at_least_float32(outputs[head]) for head in self.trained_heads}
        losses = {head: self.train_losses[head](own, _target(batch, head)) for head, own in found.items()}
        log_variances = outputs.get("log_variances")
        weights = effective_weights(self.hparams.heads, log_variances)
        loss = weighted_sum(losses, weights, log_variances)
        if self.is_logging_step or self.trainer.is_last_batch:  # the last is shown, also in an epoch of few steps
            logged = {"loss": loss} | {f"loss_{head}": own for head, own in losses.items()}
            if log_variances is not None:
                logged |= {f"weight_{head}": weights[head] for head in losses}
            self.log_dict({f"train/{name}": value.detach() for name, value in logged.items()}, sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Update the metrics; return what the heads say of the images that count."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Update the metrics; return what the heads say of the images that count."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return index (B,), and of the heads `probabilities` (B, num_classes), `box` (B, 4) and `embedding` (B, D).

        Where known, `label` (B,) too; boxes are x1, y1, x2, y2 as parts of the width and height of what the network
        sees of the image.
        """
        rows = counted(batch)
        found = {name: at_least_float32(value)[rows] for name, value in self(batch["image"]).items()}
        if "classification" in found:
            found["probabilities"] = found.pop("classification").softmax(dim=1)
        return found | {key: batch[key][rows] for key in ("index", "label") if key in batch}

    def on_validation_epoch_start(self) -> None:
        """Begin anew."""
        super().on_validation_epoch_start()
        self.metrics["val_metrics"].reset()

    def on_test_epoch_start(self) -> None:
        """Begin anew."""
        self.metrics["test_metrics"].reset()

    def on_validation_epoch_end(self) -> None:
        """Log the figures."""
        self._log_figures("val")

    def on_test_epoch_end(self) -> None:
        """Log the figures."""
        self._log_figures("test")

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> dict[str, Tensor]:
        rows = counted(batch)
        outputs = {name: at_least_float32(value)[rows] for name, value in self(batch["image"]).items()}
        truth = {key: batch[key][rows] for key in ("label", "box") if key in batch}
        if "classification" in outputs:
            logits = outputs["classification"]
            outputs |= {"logits": logits, "losses": F.cross_entropy(logits, truth["label"], reduction="none")}
        self.metrics[f"{stage}_metrics"].update(outputs, truth)
        return outputs

    def _log_figures(self, stage: str) -> None:
        for name, value in self.metrics[f"{stage}_metrics"].figures().items():
            # equal in all processes: the greatest is exact, where a mean may round
            self.log(f"{stage}/{name}", value, sync_dist=True, reduce_fx="max")


def _target(batch: Mapping[str, Tensor], head: str) -> Tensor:
    return batch["box" if head == "box" else "label"]


def _check(heads: Mapping[str, float], weighting: str, trained_heads: Sequence[str] | None) -> None:
    check_heads(list(heads))
    for head, weight in heads.items():
        if not 0 < weight < math.inf:
            raise UserError(f"heads.{head} is {weight}: its weight must be above 0, and finite")
    if weighting not in WEIGHTINGS:
        raise UserError(f"unknown weighting {weighting!r}{did_you_mean(weighting, WEIGHTINGS)}")
    if trained_heads is None:
        return
    for head in trained_heads:
        if head not in heads:
            raise UserError(f"trained_heads has {head!r}: the heads are {', '.join(heads)}")
    if not trained_heads:
        raise UserError("trained_heads is empty: name at least one head, or leave it out for all")
