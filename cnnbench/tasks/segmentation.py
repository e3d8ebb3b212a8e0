"""Semantic segmentation: losses by name, mean intersection over union, whole images and tiles, predictions."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from cnnbench.data.base import counted
from cnnbench.data.segmentation.base import IGNORED, SegmentationDataModule
from cnnbench.errors import UserError
from cnnbench.models import pretrained_cfg
from cnnbench.models.segmentation import create_segmenter, segmented, segmenter_info, tiled, tiled_bands
from cnnbench.models.segmentation.registry import BACKBONE
from cnnbench.tasks.base import Task
from cnnbench.tasks.classification import MeanOfSamples
from cnnbench.tasks.optim import OptimConfig
from cnnbench.tasks.segmentation_losses import LOSSES, check_losses, coarser_masks
from cnnbench.tasks.segmentation_metrics import SegmentationMetrics, classes_of, counted_pixels


class SegmentationTask(Task):
    """A class for each pixel; pixels of the label 255 count nowhere.

    Training logs `train/loss`, each loss where there are several, `train/lr` and `train/grad_norm` every
    `log_every_n_steps` steps. Evaluation logs `val/…` and `test/…`: `miou` (mean intersection over union), `dice`,
    `pixel_accuracy`, `iou_per_class/NAME`, `dice_per_class/NAME`, and `loss`, cross entropy of the pixels, whatever is
    trained with, all in pixels of the original masks. Each pixel counts once, whatever the number of processes; a class
    that is neither found nor there is left out.

    Args:
        name: Name of the segmenter: `unet`, `unet_paper`, or `unet_encoder`, which stands on a backbone.
        source: Who wrote it: `cnnbench`.
        backbone: Name of the classifier that it stands on, as `python -m cnnbench models` lists them; None: resnet18.
        backbone_source: Who wrote that: `cnnbench` (ours) or `timm`.
        pretrained: There are no published weights of whole segmenters: false.
        pretrained_backbone: Start from the published weights of the backbone.
        weights: Start from the weights of a whole segmenter in this file, `.safetensors`, `.pth` or a run's checkpoint.
        num_classes: Number of classes, the background among them; None: the data module tells.
        in_chans: Channels of the images; None: the data module tells.
        model_args: Further arguments of the segmenter, such as `{widths: [16, 32, 64, 128]}`.
        losses: What is trained with: weights of `cross_entropy`, `dice` and `focal`, whose sum it is; None:
            cross_entropy alone.
        class_weights: Of cross entropy and focal loss, one a class; None: equal.
        focal_gamma: How little the focal loss makes of pixels that are classified well.
        aux_weight: Weight of the losses of coarser maps, where the segmenter has some (`model_args:
            {deep_supervision: 3}`): of each the weighted sum of `losses`, on the mask's pixels nearest to the map's.
        tile: Evaluate and predict by tiles of so many pixels a side where an image is larger; None: images as a whole.
        overlap: Of neighbouring tiles, in pixels; None: half a tile.
        optim: Optimiser and schedule; None: AdamW with cosine decay.
        compile: Compile the network with `torch.compile`.
        channels_last: Keep weights and images in channels-last memory format.

    Raises:
        UserError: The segmenter, its backbone, or one of its arguments does not exist, or a value is out of range.
    """

    monitor = "val/miou"
    monitor_mode = "max"

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
        losses: dict[str, float] | None = None,
        class_weights: list[float] | None = None,
        focal_gamma: float = 2.0,
        aux_weight: float = 1.0,
        tile: int | None = None,
        overlap: int | None = None,
        optim: OptimConfig | None = None,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        losses = {"cross_entropy": 1.0} if losses is None else dict(losses)
        check_losses(losses)
        if pretrained:
            raise UserError(f"{name} has no published weights; pretrained_backbone loads those of its backbone")
        if aux_weight < 0:
            raise UserError(f"aux_weight is {aux_weight}, but may not be negative")
        if class_weights is not None and (min(class_weights, default=0) < 0 or not any(class_weights)):
            raise UserError(f"class_weights are {class_weights}: none may be negative, and one must be above 0")
        super().__init__(
            *(name, source, pretrained, weights, num_classes, in_chans, model_args, optim, compile, channels_last),
            backbone=backbone,
            backbone_source=backbone_source,
            pretrained_backbone=pretrained_backbone,
            losses=losses,
            class_weights=class_weights,
            focal_gamma=focal_gamma,
            aux_weight=aux_weight,
            tile=tile,
            overlap=overlap,
        )

    # ------------------------------------------------------------------ building

    def network_builder(self) -> Callable[..., nn.Module]:
        """Return what builds the segmenter."""
        return self._create_segmenter

    def _create_segmenter(self, pretrained: bool, weights: str | None, **kwargs: Any) -> nn.Module:
        hparams = self.hparams
        kwargs.pop("class_names", None)
        return create_segmenter(
            hparams.name,
            source=hparams.source,
            backbone=hparams.backbone,
            backbone_source=hparams.backbone_source,
            pretrained_backbone=hparams.pretrained_backbone and not self.continues,
            weights=weights,
            **kwargs,
        )

    def published_cfg(self) -> dict[str, Any]:
        """Return what images the backbone was published for, if there is one."""
        return pretrained_cfg(self.backbone, self.hparams.backbone_source) if self.backbone else {}

    @property
    def backbone(self) -> str | None:
        """Name of the classifier that the segmenter stands on, None where it is a network of its own."""
        needs = segmenter_info(self.hparams.name).needs_backbone
        return (self.hparams.backbone or BACKBONE) if needs else self.hparams.backbone

    @property
    def title(self) -> str:
        """What is trained, and who wrote it."""
        over = f" over {self.backbone} ({self.hparams.backbone_source})" if self.backbone else ""
        return super().title + over

    def check_data(self, data: LightningDataModule) -> None:
        """Refuse data without masks, and images of a size that the network does not take."""
        if not isinstance(data, SegmentationDataModule):
            has = "DigitScenesSegmentationDataModule has"
            raise UserError(f"{type(data).__name__} has no masks for SegmentationTask; {has}")
        if not self.network.border:  # images are continued to what it takes
            super().check_data(data)

    def configure_head(self, num_classes: int) -> None:
        """Create the losses, and the metrics of each stage."""
        hparams = self.hparams
        if num_classes > IGNORED:
            raise UserError(f"num_classes is {num_classes}: masks of 8 bits have at most {IGNORED}")
        if hparams.class_weights is not None and len(hparams.class_weights) != num_classes:
            raise UserError(f"class_weights has {len(hparams.class_weights)} numbers: there are {num_classes} classes")
        weights = None if hparams.class_weights is None else torch.tensor(hparams.class_weights, dtype=torch.float32)
        made = {name: LOSSES[name](weights, hparams.focal_gamma) for name in hparams.losses}
        self.train_losses = nn.ModuleDict(made)
        self.metrics = nn.ModuleDict({f"{stage}_metrics": SegmentationMetrics(num_classes) for stage in _STAGES})
        self.mean_losses = nn.ModuleDict({f"{stage}_loss": MeanOfSamples() for stage in _STAGES})

    # ------------------------------------------------------------------ steps

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the weighted sum of the losses of the batch; with deep supervision, also of those of coarser maps."""
        outputs = self(batch["image"])
        logits, *coarser = outputs if isinstance(outputs, tuple) else (outputs,)
        target = batch["mask"].long()
        losses = {f"loss_{name}": loss(logits.float(), target) for name, loss in self.train_losses.items()}
        loss = self._weighted(losses.values())
        if coarser:
            masks = coarser_masks(target, self.network.continued_size(*target.shape[-2:]), coarser)
            pairs = zip(coarser, masks, strict=True)
            of_maps = [[own(x.float(), mask) for own in self.train_losses.values()] for x, mask in pairs]
            losses["loss_aux"] = sum(map(self._weighted, of_maps))
            loss = loss + self.hparams.aux_weight * losses["loss_aux"]
        if self.is_logging_step or self.trainer.is_last_batch:  # the last is shown, also in an epoch of few steps
            logged = {"loss": loss, **(losses if len(losses) > 1 else {})}
            self.log_dict({f"train/{name}": value.detach() for name, value in logged.items()}, sync_dist=True)
        return loss

    def _weighted(self, losses: Iterable[Tensor]) -> Tensor:
        return sum(weight * loss for weight, loss in zip(self.hparams.losses.values(), losses, strict=True))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (B, num_classes, H, W) for all pixels of normalised images (B, C, H, W).

        While training with deep supervision it is a tuple: these, and the logits of coarser maps.
        """
        tile = self.hparams.tile
        if tile is None or max(images.shape[-2:]) <= tile or self.training:
            return segmented(self.network, images, super().forward)
        return tiled(self.network, images, tile, self.hparams.overlap, forward=super().forward)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Count the pixels; return the classes found and there of the images that count."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Count the pixels; return the classes found and there of the images that count."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Return index (B,), and the class of each pixel of each image, in its own pixels: a list of uint8 (H, W)."""
        return {"index": batch["index"][counted(batch)], "classes": list(self._classes(batch))}

    def on_validation_epoch_start(self) -> None:
        """Begin anew."""
        super().on_validation_epoch_start()
        self._reset("val")

    def on_test_epoch_start(self) -> None:
        """Begin anew."""
        self._reset("test")

    def on_validation_epoch_end(self) -> None:
        """Log the figures."""
        self._log_figures("val")

    def on_test_epoch_end(self) -> None:
        """Log the figures."""
        self._log_figures("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what the weights belong to."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["hyper_parameters"]["pretrained_backbone"] = False  # its own take their place

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> dict[str, Any]:
        found, there = [], []
        for logits, mask in zip(self._in_original_pixels(batch), batch["mask"], strict=False):
            mask = mask[: logits.shape[-2], : logits.shape[-1]]
            if count := counted_pixels(mask):
                loss = F.cross_entropy(logits[None], mask[None].long(), ignore_index=IGNORED)
                self.mean_losses[f"{stage}_loss"].update(loss, weight=count)
            found.append(classes_of(logits[None])[0])
            there.append(mask)
            self.metrics[f"{stage}_metrics"].update(found[-1], mask)
        return {"classes": found, "masks": there}

    def _in_original_pixels(self, batch: dict[str, Tensor]) -> Iterator[Tensor]:
        """Yield the logits (K, H, W) of each image of a batch that counts, in pixels of the original image."""
        originals = batch["original_size"][counted(batch)].tolist()
        for logits, (height, width) in zip(self._logits(batch), originals, strict=True):
            if logits.shape[-2:] != (height, width):
                logits = F.interpolate(logits[None], (height, width), mode="bilinear", align_corners=False)[0]
            yield logits

    def _logits(self, batch: dict[str, Tensor]) -> Iterator[Tensor]:
        """Yield the logits (K, H, W) of each image that counts; what pads a batch is seen by none of them."""
        rows = counted(batch)
        images, sizes = batch["image"], batch["size"].tolist()
        if all((height, width) == images.shape[-2:] for height, width in sizes):
            yield from self(images).float()[rows]
            return
        for image, (height, width) in zip(images[rows], sizes[rows], strict=True):
            yield self(image[None, :, :height, :width]).float()[0]

    def _classes(self, batch: dict[str, Tensor]) -> Iterator[Tensor]:
        """Yield the classes (H, W) of each image that counts, by tiles as soon as a row of them is finished."""
        tile, images = self.hparams.tile, batch["image"]
        if tile is None or max(images.shape[-2:]) <= tile or not torch.equal(batch["size"], batch["original_size"]):
            yield from (classes_of(logits[None])[0] for logits in self._in_original_pixels(batch))
            return
        rows = counted(batch)
        run = partial(tiled_bands, self.network, tile=tile, overlap=self.hparams.overlap, forward=super().forward)
        for image, (height, width) in zip(images[rows], batch["size"][rows].tolist(), strict=True):
            yield torch.cat([classes_of(band)[0] for band in run(image[None, :, :height, :width])])

    def _reset(self, stage: str) -> None:
        self.metrics[f"{stage}_metrics"].reset()
        self.mean_losses[f"{stage}_loss"].reset()

    def _log_figures(self, stage: str) -> None:
        figures = self.metrics[f"{stage}_metrics"].figures(self._class_names)
        if "miou" not in figures:
            raise UserError(f"no pixel of the {stage} masks counts: there is nothing to evaluate")
        figures["loss"] = self.mean_losses[f"{stage}_loss"].compute().item()
        for name, value in figures.items():
            # equal in all processes: the greatest is exact, where a mean may round
            self.log(f"{stage}/{name}", value, sync_dist=True, reduce_fx="max")

    @property
    def _class_names(self) -> list[str]:
        return list(getattr(self._data, "class_names", map(str, range(self.hparams.num_classes))))


_STAGES = ("val", "test")
