"""Semantic segmentation: a segmenter by name, and the losses that it is trained with."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from cnnbench.data import checks
from cnnbench.data.segmentation.base import IGNORED, SegmentationDataModule
from cnnbench.errors import UserError
from cnnbench.layers.precision import at_least_float32
from cnnbench.models import pretrained_cfg
from cnnbench.models.segmentation import create_segmenter, overlap_of_tiles, segmenter_info
from cnnbench.models.segmentation.registry import BACKBONE
from cnnbench.tasks.optim import OptimConfig
from cnnbench.tasks.segmentation_evaluation import SegmentationEvaluation
from cnnbench.tasks.segmentation_losses import LOSSES, check_losses, coarser_masks


class SegmentationTask(SegmentationEvaluation):
    """A class for each pixel; pixels of the label 255 count nowhere.

    Training logs `train/loss`, each loss where there are several, such as `train/loss_dice`, with deep supervision
    `train/loss_aux`, what the coarser maps add up to before `aux_weight`, and `train/lr` and `train/grad_norm`, every
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
        tile: Evaluate and predict by tiles of so many pixels a side where an image is larger, a multiple of the
            network's stride (16 or 32 as a rule); None: images as a whole.
        overlap: Of neighbouring tiles, in pixels; None: half a tile.
        optim: Optimiser and schedule; None: AdamW with cosine decay.
        compile: Compile the network with `torch.compile`.
        channels_last: Keep weights and images in channels-last memory format.

    Raises:
        UserError: The segmenter, its backbone, or one of its arguments does not exist, or a value is out of range.
    """

    monitor = "val/miou"
    monitor_mode = "max"
    epoch_figures = ("train/loss", "val/loss", "val/miou", "val/pixel_accuracy")

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
        check_losses(losses, class_weights)
        if pretrained:
            raise UserError(f"{name} has no published weights; pretrained_backbone loads those of its backbone")
        checks.not_negative("focal_gamma", focal_gamma)
        checks.not_negative("aux_weight", aux_weight)
        if overlap is not None and tile is None:
            raise UserError(f"overlap is {overlap}, but there is no tile: set tile, the side of a tile in pixels")
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
        return create_segmenter(
            hparams.name,
            source=hparams.source,
            backbone=hparams.backbone,
            backbone_source=hparams.backbone_source,
            pretrained_backbone=hparams.pretrained_backbone and not self.has_checkpoint,
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
        if self.hparams.tile is not None:
            overlap_of_tiles(self.network, self.hparams.tile, self.hparams.overlap)  # refuses what does not fit

    def configure_head(self, num_classes: int) -> None:
        """Create the losses, and the metrics of each stage."""
        hparams = self.hparams
        if num_classes > IGNORED:
            raise UserError(f"num_classes is {num_classes}: masks of 8 bits have at most {IGNORED}")
        if hparams.class_weights is not None and len(hparams.class_weights) != num_classes:
            raise UserError(f"class_weights has {len(hparams.class_weights)} numbers: there are {num_classes} classes")
        dtype = torch.get_default_dtype()
        weights = None if hparams.class_weights is None else torch.tensor(hparams.class_weights, dtype=dtype)
        made = {name: LOSSES[name](weights, hparams.focal_gamma) for name in hparams.losses}
        self.train_losses = nn.ModuleDict(made)
        self.configure_metrics(num_classes)

    # ------------------------------------------------------------------ steps

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the weighted sum of the losses of the batch; with deep supervision, also of those of coarser maps."""
        outputs = self(batch["image"])
        logits, *coarser = outputs if isinstance(outputs, tuple) else (outputs,)
        target = batch["mask"].long()
        losses = {f"loss_{name}": loss(at_least_float32(logits), target) for name, loss in self.train_losses.items()}
        loss = self._weighted(losses.values())
        if coarser:
            masks = coarser_masks(target, self.network.continued_size(*target.shape[-2:]), coarser)
            pairs = zip(coarser, masks, strict=True)
            of_maps = [[own(at_least_float32(x), mask) for own in self.train_losses.values()] for x, mask in pairs]
            losses["loss_aux"] = sum(map(self._weighted, of_maps))
            loss = loss + self.hparams.aux_weight * losses["loss_aux"]
        if self.is_logging_step or self.trainer.is_last_batch:  # the last is shown, also in an epoch of few steps
            logged = {"loss": loss, **(losses if len(losses) > 1 else {})}
            self.log_dict({f"train/{name}": value.detach() for name, value in logged.items()}, sync_dist=True)
        return loss

    def _weighted(self, losses: Iterable[Tensor]) -> Tensor:
        return sum(weight * loss for weight, loss in zip(self.hparams.losses.values(), losses, strict=True))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what the weights belong to."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["hyper_parameters"]["pretrained_backbone"] = False  # its own take their place
