"""What every detector shares: its contract with those who train it and ask it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.errors import UserError
from cnnbench.models.stages import feature_info_of

Target = dict[str, Tensor]
Detections = dict[str, Tensor]
Size = tuple[int, int]


class Detector(nn.Module):
    """A network that finds objects: losses while it is trained, detections afterwards.

    A subclass writes `losses`, `detect` and `answer`. Given images without data, on the meta device, it answers only:
    nothing can be found in these, while shapes and costs can be told.

    Args:
        backbone: Makes feature maps of images.
        num_classes: Classes of objects; the background is none of them.
    """

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes

    def forward(
        self, images: Tensor, targets: Sequence[Target] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Detections] | tuple[Tensor, ...]:
        """Return the losses of a batch in training mode, what is found in its images in evaluation mode.

        Args:
            images: (B, C, H, W), normalised.
            targets: For each image `boxes` (N, 4), xyxy in pixels, and `labels` (N,), int64 from 0; for training.
            sizes: int64 (B, 2), height and width of what of each canvas is image; None: all of it.

        Returns:
            In training mode scalars by name, to be added up; in evaluation mode for each image `boxes` (N, 4), clipped
            to it, `scores` (N,), falling, and `labels` (N,); of images without data what `answer` returns.

        Raises:
            UserError: A target is missing or wrong.
        """
        if images.is_meta:
            return self.answer(self.backbone(images))
        canvas = tuple(images.shape[-2:])
        extents = extents_of(images, sizes)
        if not self.training:
            return self.detect(self.backbone(images), canvas, extents)
        targets = checked_targets(targets, images, self.num_classes)
        return self.losses(self.backbone(images), targets, canvas, extents)

    def losses(
        self, features: Sequence[Tensor], targets: Sequence[Target], canvas: Size, extents: Sequence[Size]
    ) -> dict[str, Tensor]:
        """Return the losses by name.

        Args:
            features: The backbone's maps, finest first.
            targets: As `forward` takes them.
            canvas: Height and width of the batch.
            extents: Height and width of each image on it.
        """
        raise NotImplementedError

    def detect(self, features: Sequence[Tensor], canvas: Size, extents: Sequence[Size]) -> list[Detections]:
        """Return what is found in each image; the arguments are those of `losses`."""
        raise NotImplementedError

    def answer(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return what the heads make of feature maps, before it is told what to learn or what was found."""
        raise NotImplementedError

    def get_classifier(self) -> list[nn.Module]:
        """Return what is no part of the classifier that the detector stands on: pyramid and heads."""
        heads = [module for name, module in self.named_children() if name != "backbone"]
        return [module for module in (self.backbone.fpn, *heads) if module is not None]

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """What the backbone's maps are, as timm tells it, and the modules here that they come from."""
        return feature_info_of(self.backbone.body, "backbone.body")


def extents_of(images: Tensor, sizes: Tensor | None) -> list[Size]:
    """Return height and width of each image on its canvas: the whole of it where `sizes` (B, 2) is None."""
    if sizes is None:
        return [tuple(images.shape[-2:])] * len(images)
    return [(height, width) for height, width in sizes.tolist()]


def checked_targets(targets: Sequence[Target] | None, images: Tensor, num_classes: int) -> list[Target]:
    """Return targets with boxes in the precision of the images, float32 at least.

    Args:
        targets: For each image `boxes` and `labels`.
        images: (B, C, H, W).
        num_classes: What the detector tells apart.

    Raises:
        UserError: They are missing or of wrong shapes, a box is not finite or has no area, or a class is not there.
    """
    if targets is None:
        raise UserError("a detector needs targets in training mode: `boxes` and `labels` for each image")
    if len(targets) != len(images):
        raise UserError(f"there are targets for {len(targets)} images, and {len(images)} images")
    dtype = torch.promote_types(images.dtype, torch.float32)
    checked = []
    for index, target in enumerate(targets):
        boxes, labels = target["boxes"], target["labels"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
            shapes = f"boxes {tuple(boxes.shape)} and labels {tuple(labels.shape)}"
            raise UserError(f"image {index} of the batch has {shapes}; they should be (N, 4) and (N,)")
        if labels.is_floating_point() or not boxes.is_floating_point():
            types = f"boxes of {boxes.dtype} and labels of {labels.dtype}"
            raise UserError(f"image {index} of the batch has {types}; they should be of floats and of whole numbers")
        checked.append({"boxes": boxes.to(dtype), "labels": labels})
    _check_values(checked, num_classes)
    return checked


def _check_values(targets: Sequence[Target], num_classes: int) -> None:
    together = {key: torch.cat([target[key] for target in targets]) for key in ("boxes", "labels")}
    if bool((_sound(together) & _known(together, num_classes)).all()):  # the one moment that waits for the device
        return
    for image, target in enumerate(targets):
        for place in (~_sound(target)).nonzero().flatten().tolist():
            numbers = ", ".join(f"{number:g}" for number in target["boxes"][place].tolist())
            raise UserError(
                f"object {place} of image {image} of the batch has the box ({numbers}): finite numbers x1, y1, x2, y2 "
                "are needed, with x2 > x1 and y2 > y1"
            )
        for place in (~_known(target, num_classes)).nonzero().flatten().tolist():
            raise UserError(
                f"object {place} of image {image} of the batch is of class {int(target['labels'][place])}, and the "
                f"detector knows {num_classes}, from 0"
            )


def _sound(target: Target) -> Tensor:
    boxes = target["boxes"]
    return torch.isfinite(boxes).all(dim=1) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)


def _known(target: Target, num_classes: int) -> Tensor:
    return (target["labels"] >= 0) & (target["labels"] < num_classes)
