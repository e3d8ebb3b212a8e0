"""Object detection: losses of a detector over any backbone, COCO's average precision, predictions."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from cnnbench.data.base import counted
from cnnbench.data.detection.base import DetectionDataModule
from cnnbench.data.detection.samples import in_original_pixels, targets_of, truth_of
from cnnbench.errors import UserError, did_you_mean
from cnnbench.models import pretrained_cfg
from cnnbench.models.detection import backbone_of, create_detector, detector_info
from cnnbench.tasks.average_precision import AveragePrecision, Boxes
from cnnbench.tasks.base import Task
from cnnbench.tasks.optim import OptimConfig


class DetectionTask(Task):
    """Boxes with a class and a score each.

    Training logs `train/loss`, the weighted sum, and each loss of the detector, `train/lr` and `train/grad_norm` every
    `log_every_n_steps` steps. Evaluation logs COCO's average precision as `val/…` and `test/…`: `map`, `map_50`,
    `map_75`, `map_small`, `map_medium`, `map_large` and `map_per_class/NAME`, in pixels of the original images. Each
    image counts once, whatever the number of processes; a figure of which there are no objects is left out.

    Args:
        name: Name of the detector: `yolo`, `retinanet`, `faster_rcnn`, or one named after its backbone too, such as
            `fasterrcnn_resnet50_fpn`.
        source: Who wrote its neck and heads: `cnnbench` (ours) or `torchvision`.
        backbone: Name of the network that it stands on, as `python -m cnnbench models` lists them; None: resnet50.
        backbone_source: Who wrote that: `cnnbench` (ours) or `timm`.
        pretrained: Start from the published weights of the whole detector, where its name is of one that has some. What
            they were trained with frozen is frozen, and stays so where training goes on.
        pretrained_backbone: Start from the published weights of the backbone.
        weights: Start from the weights of a whole detector in this file, `.safetensors`, `.pth` or a run's checkpoint.
        num_classes: Number of classes; None: the data module tells.
        in_chans: Channels of the images; None: the data module tells.
        model_args: Further arguments of the detector, such as `{score_thresh: 0.1}`.
        optim: Optimiser and schedule; None: AdamW with cosine decay.
        loss_weights: Factors of the detector's losses in the sum that is trained, by their names in `metrics.csv`
            without `train/`, such as `{loss_box: 2.0}`; 1 for those that are not named.
        compile: Compile the backbone, with its pyramid, with `torch.compile`.
        channels_last: Keep weights and images in channels-last memory format.

    Raises:
        UserError: The detector, its backbone, a source or one of its arguments does not exist.
    """

    monitor = "val/map"
    monitor_mode = "max"
    epoch_figures = ("train/loss", "val/map", "val/map_50")

    def __init__(
        self,
        name: str,
        source: str = "cnnbench",
        backbone: str | None = None,
        backbone_source: str = "cnnbench",
        pretrained: bool = False,
        pretrained_backbone: bool = False,
        weights: str | None = None,
        num_classes: int | None = None,
        in_chans: int | None = None,
        model_args: dict[str, Any] | None = None,
        optim: OptimConfig | None = None,
        loss_weights: dict[str, float] | None = None,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        if loss_weights and min(loss_weights.values()) < 0:
            raise UserError(f"loss_weights is {loss_weights}, but none may be negative")
        super().__init__(
            *(name, source, pretrained, weights, num_classes, in_chans, model_args, optim, compile, channels_last),
            backbone=backbone,
            backbone_source=backbone_source,
            pretrained_backbone=pretrained_backbone,
            loss_weights=dict(loss_weights or {}),
        )

    def forward(
        self, images: Tensor, targets: list[Boxes] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Boxes]:
        """Return the losses in training, the detections otherwise.

        Args:
            images: Normalised, (B, C, H, W).
            targets: In training, `boxes` (N, 4), xyxy in pixels of the canvas, and `labels` (N,) of each image.
            sizes: Height and width of what of each canvas is image, (B, 2); None: all.

        Returns:
            Losses by name; or for each image `boxes`, `scores` and `labels`, the highest score first.
        """
        if self.hparams.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.network(images, targets, sizes)

    # ------------------------------------------------------------------ building

    def network_builder(self) -> Callable[..., nn.Module]:
        """Return what builds the detector."""
        return self._create_detector

    def _create_detector(self, pretrained: bool, weights: str | None, **kwargs: Any) -> nn.Module:
        hparams = self.hparams
        has_weights = pretrained or weights or self.has_checkpoint
        return create_detector(
            hparams.name,
            source=hparams.source,
            backbone=hparams.backbone,
            backbone_source=hparams.backbone_source,
            pretrained=pretrained,
            pretrained_backbone=hparams.pretrained_backbone and not has_weights,
            weights=weights,
            **{**kwargs, "as_published": self._as_published},
        )

    @property
    def _as_published(self) -> bool:
        """Whether the network is that of published weights, which a checkpoint may hold in their place."""
        given = self.hparams.model_args.get("as_published")
        return self.hparams.pretrained if given is None else given

    def published_cfg(self) -> dict[str, Any]:
        """Return what images the backbone was published for."""
        return pretrained_cfg(self.backbone, self.hparams.backbone_source)

    @property
    def published_weights(self) -> str | None:
        """The setting that starts from published weights, None where there are none."""
        return "pretrained" if detector_info(self.hparams.name).published else super().published_weights

    @property
    def backbone(self) -> str:
        """Name of the network that the detector stands on."""
        return self.hparams.backbone or backbone_of(self.hparams.name)

    @property
    def title(self) -> str:
        """What is trained, and who wrote it."""
        return f"{super().title} over {self.backbone} ({self.hparams.backbone_source})"

    def configure_model(self) -> None:
        """Build the detector, once it is sure that its boxes can be told; `fit` clusters its anchors if it wants that.

        Raises:
            UserError: The Trainer's precision has no room for pixels, or there are too few objects for the anchors.
        """
        precision = None if self._trainer is None else self.trainer.precision
        if precision in ("16-true", "bf16-true"):
            mixed = precision.replace("true", "mixed")
            raise UserError(f"trainer.precision {precision} rounds boxes by whole pixels; {mixed} keeps them")
        super().configure_model()
        begins = self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING and not self.has_checkpoint
        if begins and getattr(self.network, "wants_sizes", False):
            self._cluster_anchors()

    def _cluster_anchors(self) -> None:
        sizes = self._data.box_sizes()
        self.network.cluster(sizes)
        anchors = ", ".join("{:.0f}x{:.0f}".format(*anchor) for anchor in self.network.anchors.flatten(0, 1).tolist())
        self.print(f"anchors  {anchors}: clustered from {len(sizes):,} objects")

    def compiled_parts(self) -> list[nn.Module]:
        """Return the backbone; what follows it depends on what is in the images."""
        return [self.network.backbone]

    def check_data(self, data: LightningDataModule) -> None:
        """Refuse data without boxes."""
        if not isinstance(data, DetectionDataModule):
            raise UserError(f"{type(data).__name__} has no boxes for DetectionTask; DigitScenesDataModule has")

    def configure_head(self, num_classes: int) -> None:
        """Create the metrics of each stage."""
        self.precisions = {stage: AveragePrecision() for stage in ("val", "test")}

    # ------------------------------------------------------------------ steps

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the sum of the detector's losses of the batch."""
        losses = self(batch["image"], targets_of(batch), batch["size"])
        loss = self._weighted_sum(losses)
        if self.is_logging_step or self.trainer.is_last_batch:  # the last is shown, also in an epoch of few steps
            logged = {"loss": loss, **losses}
            self.log_dict({f"train/{name}": value.detach() for name, value in logged.items()}, sync_dist=True)
        return loss

    def _weighted_sum(self, losses: dict[str, Tensor]) -> Tensor:
        weights = self.hparams.loss_weights
        for name in weights.keys() - losses.keys():
            raise UserError(f"{self.hparams.name} has no loss {name!r} for loss_weights{did_you_mean(name, losses)}")
        return sum(weights.get(name, 1.0) * value for name, value in losses.items())

    def on_validation_epoch_start(self) -> None:
        """Begin anew."""
        super().on_validation_epoch_start()
        self.precisions["val"].reset()

    def on_test_epoch_start(self) -> None:
        """Begin anew."""
        self.precisions["test"].reset()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Keep what is found for the metrics; return it, of the images that count, and what is there."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Keep what is found for the metrics; return it, of the images that count, and what is there."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Return index (B,), and the detections of each image in its own pixels."""
        return {"index": batch["index"][counted(batch)], "detections": self._detections(batch)}

    def on_validation_epoch_end(self) -> None:
        """Log the average precisions."""
        self._log_precision("val")

    def on_test_epoch_end(self) -> None:
        """Log the average precisions."""
        self._log_precision("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what the weights belong to."""
        super().on_save_checkpoint(checkpoint)
        saved = checkpoint["hyper_parameters"]
        saved["pretrained_backbone"] = False  # its own take their place
        if self._as_published:
            saved["model_args"] = {**saved["model_args"], "as_published": True}

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> dict[str, Any]:
        rows = counted(batch)
        detections, truths = self._detections(batch), truth_of(batch)[rows]
        self.precisions[stage].update(batch["index"][rows].tolist(), detections, truths)
        return {"detections": detections, "truths": truths}

    def _detections(self, batch: dict[str, Tensor]) -> list[Boxes]:
        """Return what is found in the images of a batch that count, in pixels of the original images."""
        detections = self(batch["image"], sizes=batch["size"])
        return in_original_pixels(detections, batch)[counted(batch)]

    def _log_precision(self, stage: str) -> None:
        figures = self.precisions[stage].compute(self._class_names)
        if not figures and not self.trainer.sanity_checking:
            raise UserError(f"there are no objects in the {stage} images: there is no average precision to tell")
        for name, value in figures.items():
            # equal in all processes: the greatest is exact, where a mean may round
            self.log(f"{stage}/{name}", value, sync_dist=True, reduce_fx="max")
