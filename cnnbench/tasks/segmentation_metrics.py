"""Metrics of segmentation: all from one confusion matrix of pixels, summed over batches and processes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from cnnbench.data.segmentation.base import IGNORED

_AT_A_TIME = 1 << 14  # pixels that a processor's cache holds, with their logits


class SegmentationMetrics(Metric):
    """Intersection over union, Dice and accuracy of pixels.

    The matrix counts in whole numbers: the figures are those of one process, whatever the number of processes.

    Args:
        num_classes: Classes, the background among them.
    """

    full_state_update = False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        empty = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("confusion", empty, dist_reduce_fx="sum")  # row: what is there; column: what was found

    def update(self, found: Tensor, there: Tensor) -> None:
        """Count pixels.

        Args:
            found: Classes, uint8, any shape.
            there: The same, 255 where a pixel does not count.
        """
        classes, at_a_time = self.num_classes, _AT_A_TIME if found.device.type == "cpu" else found.numel()
        for own, true in zip(found.reshape(-1).split(at_a_time), there.reshape(-1).split(at_a_time), strict=True):
            row = true.clamp(max=classes).to(torch.int32)  # what does not count has a row of its own
            counts = torch.bincount(row.mul_(classes).add_(own), minlength=(classes + 1) * classes)
            self.confusion += counts.view(classes + 1, classes)[:-1]

    def compute(self) -> dict[str, Tensor]:
        """Return the figures; of classes that are neither found nor there, NaN.

        Returns:
            `miou` and `dice`, means over the classes that are found or there, `pixel_accuracy`, and `iou_per_class` and
            `dice_per_class` (K,).
        """
        confusion = self.confusion.double()
        both, found, there = confusion.diag(), confusion.sum(0), confusion.sum(1)
        iou, dice = both / (found + there - both), 2 * both / (found + there)
        return {
            "miou": iou.nanmean(),
            "dice": dice.nanmean(),
            "pixel_accuracy": both.sum() / confusion.sum(),
            "iou_per_class": iou,
            "dice_per_class": dice,
        }

    def figures(self, class_names: Sequence[str]) -> dict[str, float]:
        """Return what `compute` does by name, `iou_per_class/NAME` of each class; what is NaN is left out."""
        values = {}
        for name, value in self.compute().items():
            each = [name] if value.ndim == 0 else [f"{name}/{own}" for own in class_names]
            values |= dict(zip(each, value.reshape(-1).tolist(), strict=True))
        return {name: value for name, value in values.items() if value == value}


def classes_of(logits: Tensor) -> Tensor:
    """Return the class of the greatest logit of each pixel, the first of equal ones: uint8 (B, H, W).

    On a CPU `argmax` over classes that lie far apart in memory takes ten times as long as this.

    Args:
        logits: (B, K, H, W), K at most 255.
    """
    classes = logits.shape[1]
    if logits.device.type != "cpu":
        return logits.argmax(dim=1).to(torch.uint8)
    rest = torch.arange(classes, 0, -1, dtype=torch.uint8)[:, None]  # the first class has most to go
    out = torch.empty(len(logits), logits[0, 0].numel(), dtype=torch.uint8)
    for image, own in zip(logits.flatten(2), out, strict=True):
        for some, target in zip(image.split(_AT_A_TIME, dim=1), own.split(_AT_A_TIME), strict=True):
            is_greatest = some == some.amax(0)
            torch.sub(classes, (is_greatest * rest).amax(0), out=target)
    return out.clamp_(max=classes - 1).view(len(logits), *logits.shape[2:])  # all NaN: none is the greatest


def counted_pixels(there: Tensor) -> int:
    """Return how many pixels of masks count."""
    return int((there != IGNORED).sum())
