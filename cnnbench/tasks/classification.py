"""Image classification: a loss by name, top-1 and top-5 accuracy, predictions."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms import v2

from cnnbench.data.base import counted
from cnnbench.errors import UserError
from cnnbench.models import list_models, model_info
from cnnbench.tasks.base import Task
from cnnbench.tasks.losses import create_loss
from cnnbench.tasks.mean_of_samples import SUM_DTYPE, MeanOfSamples
from cnnbench.tasks.optim import OptimConfig
from cnnbench.tasks.steps import epochs_of

_KEPT_BATCHES, _KEPT_LOGITS = 50, 2**20  # until they are counted together


class ClassificationTask(Task):
    """One label an image.

    Training logs `train/loss`, `train/lr` and `train/grad_norm` every `log_every_n_steps` steps and
    `train/accuracy` every epoch; evaluation logs `val/…` and `test/…`: `loss` (cross entropy without label smoothing,
    whatever is trained with), `accuracy` and, from six classes on, `accuracy_top5`. Each sample counts once, whatever
    the number of processes.

    Args:
        name: Name of the model, as `python -m cnnbench models` lists them.
        source: Who wrote the network: `cnnbench` (ours), `timm` or `torchvision`.
        pretrained: Start from the published weights.
        weights: Start from the weights in this file instead, `.safetensors`, `.pth` or a run's checkpoint; a
            classifier for other classes starts anew.
        num_classes: Number of classes; None: the data module tells.
        in_chans: Channels of the images; None: the data module tells.
        model_args: Further arguments of the model, such as `{drop_path_rate: 0.1}`.
        optim: Optimiser and schedule; None: AdamW with cosine decay.
        loss: What is trained with: `cross_entropy`; `bce`, binary cross entropy of every class (Wightman et al. 2021,
            arXiv:2110.00476); or `asymmetric`, which makes little of what is sure (Ridnik et al. 2020,
            arXiv:2009.14119).
        bce_target_threshold: With `bce`, targets above this become 1 and others 0; None: left as they are.
        label_smoothing: Share of the target spread evenly over all classes, in training only.
        mixup: Alpha of mixup (Zhang et al. 2018, arXiv:1710.09412); 0: off. With `cutmix` too, each batch
            takes one of both.
        cutmix: Alpha of CutMix (Yun et al. 2019, arXiv:1905.04899); 0: off.
        mixup_off_epochs: The last epochs, in which neither mixes.
        aux_weight: Weight of the losses of auxiliary heads, where the network has some (`model_args:
            {aux_logits: true}`); None: that of the paper's network here, whoever wrote the one that trains, or
            else 0.3.
        compile: Compile the network with `torch.compile`.
        channels_last: Keep weights and images in channels-last memory format.

    Raises:
        UserError: The model, its source or one of its arguments does not exist, or a value is out of range.
    """

    monitor = "val/accuracy"
    monitor_mode = "max"
    epoch_figures = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")

    def __init__(
        self,
        name: str,
        source: str = "cnnbench",
        pretrained: bool = False,
        weights: str | None = None,
        num_classes: int | None = None,
        in_chans: int | None = None,
        model_args: dict[str, Any] | None = None,
        optim: OptimConfig | None = None,
        loss: str = "cross_entropy",
        bce_target_threshold: float | None = None,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        mixup_off_epochs: int = 0,
        aux_weight: float | None = None,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing is {label_smoothing}, but must be at least 0 and below 1")
        if min(mixup, cutmix) < 0:
            raise UserError(f"mixup is {mixup} and cutmix {cutmix}, but neither may be negative")
        if aux_weight is not None and aux_weight < 0:
            raise UserError(f"aux_weight is {aux_weight}, but may not be negative")
        if mixup_off_epochs < 0:
            raise UserError(f"mixup_off_epochs is {mixup_off_epochs}, but may not be negative")
        if mixup_off_epochs and not max(mixup, cutmix):
            raise UserError(f"mixup_off_epochs is {mixup_off_epochs}, but neither mixup nor cutmix is on")
        create_loss(loss, label_smoothing, bce_target_threshold, mixed=max(mixup, cutmix) > 0)  # refuses what is wrong
        super().__init__(
            *(name, source, pretrained, weights, num_classes, in_chans, model_args, optim, compile, channels_last),
            loss=loss,
            bce_target_threshold=bce_target_threshold,
            label_smoothing=label_smoothing,
            mixup=mixup,
            cutmix=cutmix,
            mixup_off_epochs=mixup_off_epochs,
            aux_weight=aux_weight,
        )

    def configure_head(self, num_classes: int) -> None:
        """Create the loss, the metrics of each stage, and the mixing of the batch."""
        self.train_accuracy = MeanOfSamples()
        self._hits, self._counted = torch.zeros((), dtype=torch.long), 0
        self._uncounted: list[tuple[Tensor, Tensor]] = []  # logits and labels of batches
        self.val_metrics = _evaluation_metrics(num_classes)
        self.test_metrics = _evaluation_metrics(num_classes)
        hparams = self.hparams
        self.mix = _mixing(hparams.mixup, hparams.cutmix, num_classes)
        self._unmixed_from = math.inf  # the epoch, counted from 0
        threshold = hparams.bce_target_threshold
        self.train_loss = create_loss(hparams.loss, hparams.label_smoothing, threshold, mixed=self.mix is not None)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the mean loss of the batch."""
        images, labels = batch["image"], batch["label"]
        targets, is_mixing = labels, self.is_mixing
        if is_mixing:
            images, targets = self.mix(images, labels)  # targets: (B, num_classes), a distribution each
        outputs = self.forward(images)
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)  # (B, num_classes) each
        loss = self.train_loss(logits, targets)
        if auxiliary:
            loss = loss + self.aux_weight * sum(self.train_loss(output, targets) for output in auxiliary)
        if self.is_logging_step or self.trainer.is_last_batch:  # the last is shown, also in an epoch of few steps
            self.log("train/loss", loss.detach(), sync_dist=True)  # exact: training batches are of equal size
        if not is_mixing:  # a mixed image has no single label to count
            # a metric's update in each step costs a sixth of a small network's own; so it has one an epoch
            self._uncounted.append((logits.detach(), labels))
            if len(self._uncounted) >= min(_KEPT_BATCHES, 1 + _KEPT_LOGITS // logits.numel()):
                self._count()
        return loss

    def _count(self) -> None:
        """Count the hits of the batches since this was called last."""
        if self._uncounted:
            logits, labels = map(torch.cat, zip(*self._uncounted, strict=True))
            self._hits += (logits.argmax(dim=1) == labels).sum()
            self._counted += labels.numel()
            self._uncounted = []

    @property
    def aux_weight(self) -> float:
        """Weight of the losses of auxiliary heads."""
        if self.hparams.aux_weight is not None:
            return self.hparams.aux_weight
        name = self.hparams.name
        return getattr(model_info(name).network, "aux_weight", 0.3) if name.partition(".")[0] in list_models() else 0.3

    @property
    def is_mixing(self) -> bool:
        """Whether the batches of this epoch are mixed."""
        return self.mix is not None and self.current_epoch < self._unmixed_from

    def on_train_start(self) -> None:
        """Find the epoch in which mixing ends; bring what a checkpoint had counted to the device."""
        super().on_train_start()
        if self.hparams.mixup_off_epochs:
            self._unmixed_from = max(0, epochs_of(self.trainer) - self.hparams.mixup_off_epochs)
        self._hits = self._hits.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Count from zero; say when mixing ends."""
        ends = self.mix is not None and self.hparams.mixup_off_epochs and self.current_epoch == self._unmixed_from
        if ends and self.trainer.progress_bar_callback is not None:
            self.print(f"mixup and CutMix are off from epoch {self.current_epoch + 1} on")
        self._hits, self._counted = torch.zeros((), dtype=torch.long, device=self.device), 0
        self._uncounted = []

    def running_figures(self) -> dict[str, Tensor]:
        """Return the accuracy over the epoch so far, in this process."""
        self._count()
        return {"accuracy": self._hits / self._counted} if self._counted else {}

    def on_train_epoch_end(self) -> None:
        """Log the accuracy over the epoch, and whether it was mixed."""
        if self.mix is not None and self.hparams.mixup_off_epochs:
            self.log("train/mixing", float(self.is_mixing))
        self._count()
        if self._counted:
            self.train_accuracy.update(self._hits.to(SUM_DTYPE) / self._counted, weight=self._counted)
            self.log("train/accuracy", self.train_accuracy)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what was counted in the running epoch, in each process."""
        super().on_save_checkpoint(checkpoint)
        self._count()
        own = (int(self._hits), self._counted)
        counts = [own] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(counts, own)
        checkpoint["cnnbench"]["train_counts"] = counts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting where the checkpoint's epoch had come to."""
        super().on_load_checkpoint(checkpoint)
        counts = checkpoint.get("cnnbench", {}).get("train_counts", [])
        if self.global_rank < len(counts):
            hits, self._counted = counts[self.global_rank]
            self._hits = torch.tensor(hits)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Update the metrics; return loss (B,) and logits (B, num_classes) of what counts."""
        return self._evaluate(batch, "val", self.val_metrics)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Update the metrics; return loss (B,) and logits (B, num_classes) of what counts."""
        return self._evaluate(batch, "test", self.test_metrics)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return index (B,), probabilities (B, num_classes) and, where known, label (B,)."""
        rows = counted(batch)
        probabilities = self(batch["image"]).float().softmax(dim=1)[rows]
        known = {key: batch[key][rows] for key in ("index", "label") if key in batch}
        return {"probabilities": probabilities, **known}

    def _evaluate(self, batch: dict[str, Tensor], stage: str, metrics: nn.ModuleDict) -> dict[str, Tensor]:
        rows = counted(batch)
        logits, labels = self(batch["image"]).float()[rows], batch["label"][rows]
        losses = F.cross_entropy(logits, labels, reduction="none")
        for key, metric in metrics.items():
            if len(labels):
                metric.update(losses) if key == "loss" else metric.update(logits, labels)
            self.log(f"{stage}/{key}", metric, on_step=False, on_epoch=True)
        return {"losses": losses, "logits": logits}


def _accuracy(num_classes: int, top_k: int = 1) -> MulticlassAccuracy:
    return MulticlassAccuracy(num_classes, top_k=top_k, average="micro", validate_args=False)


def _evaluation_metrics(num_classes: int) -> nn.ModuleDict:
    metrics = {"loss": MeanOfSamples(), "accuracy": _accuracy(num_classes)}
    if num_classes > 5:
        metrics["accuracy_top5"] = _accuracy(num_classes, top_k=5)
    return nn.ModuleDict(metrics)


def _mixing(mixup: float, cutmix: float, num_classes: int) -> v2.Transform | None:
    transforms = []
    if mixup > 0:
        transforms.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
    if cutmix > 0:
        transforms.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))
    return v2.RandomChoice(transforms) if transforms else None
