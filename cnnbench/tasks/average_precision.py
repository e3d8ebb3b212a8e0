"""COCO's average precision of an evaluation, exact in any number of processes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from cnnbench.layers.boxes import pairwise_iou

_OVERALL = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
_LEAST_OVERLAP = 0.49  # just below the least IoU that is asked for
_NOTHING = -1.0  # COCO's figure where there is no object to find

Boxes = dict[str, Tensor]


class AveragePrecision:
    """Mean average precision of COCO: over IoU 0.50 to 0.95, at 0.50 and 0.75, by size and by class.

    torchmetrics' `MeanAveragePrecision` cannot be gathered from processes with unequal numbers of images; here the
    images are, by their index, and one process computes. (Lin et al. 2014, arXiv:1405.0312; the evaluation is that of
    https://cocodataset.org/#detection-eval: at most 100 detections an image count.)
    """

    def __init__(self) -> None:
        self._images: dict[int, tuple[Boxes, Boxes]] = {}

    def reset(self) -> None:
        """Forget all images."""
        self._images.clear()

    def update(self, indices: Sequence[int], detections: Sequence[Boxes], truths: Sequence[Boxes]) -> None:
        """Keep what was found in images, and what is there.

        Args:
            indices: The place of each in the data; an image that comes twice counts once.
            detections: `boxes` (N, 4), xyxy in pixels of the original image; `scores` (N,); `labels` (N,).
            truths: `boxes` and `labels` likewise; `area` (N,) in pixels, which tells small, medium and large apart;
                `iscrowd` (N,), 1 where a detection that lies within the box is ignored; and, if any object is,
                `difficult` bool (N,): one that need not be found, and whose detections, those that overlap it by the
                IoU that is asked for, are ignored, as VOC's own evaluation has it.
        """
        for index, found, there in zip(indices, detections, truths, strict=True):
            self._images[index] = _on_cpu(found), _on_cpu(there)

    def compute(self, class_names: Sequence[str]) -> dict[str, float]:
        """Return the figures by name, the same in all processes; those of which there are no objects are left out.

        Args:
            class_names: By label.

        Returns:
            `map`, `map_50`, `map_75`, `map_small` (below 32 x 32 pixels), `map_medium`, `map_large` (from 96 x 96 on),
            and `map_per_class/NAME`.
        """
        images = self._gathered()
        figures: list[dict[str, float] | None] = [None]
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            figures = [_computed(images, class_names)]
        if torch.distributed.is_initialized():
            torch.distributed.broadcast_object_list(figures, src=0)
        return figures[0] or {}

    def _gathered(self) -> list[tuple[Boxes, Boxes]]:
        """Return the images of all processes in the order of the data, as one process has them."""
        shares: list[Any] = [self._images]
        if torch.distributed.is_initialized():
            shares *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(shares, self._images)
        images = {index: image for share in shares for index, image in share.items()}
        return [images[index] for index in sorted(images)]


def _computed(images: Sequence[tuple[Boxes, Boxes]], class_names: Sequence[str]) -> dict[str, float]:
    images = [(found, _without_difficult(found, there)) for found, there in images]
    if not any(len(there["labels"]) for _, there in images):
        return {}
    metric = MeanAveragePrecision(backend="faster_coco_eval", extended_summary=True, sync_on_compute=False)
    metric.warn_on_many_detections = False
    metric.update(*(list(side) for side in zip(*images, strict=True)))
    found = metric.compute()
    figures = {name: float(found[name]) for name in _OVERALL}
    for place, label in enumerate(found["classes"].reshape(-1).tolist()):
        of_class = found["precision"][:, :, place, 0, -1]  # IoU, recall; objects of any size, the most detections
        if (of_class >= 0).any():
            figures[f"map_per_class/{class_names[label]}"] = float(of_class[of_class >= 0].mean())
    return {name: value for name, value in figures.items() if value != _NOTHING}


def _without_difficult(found: Boxes, there: Boxes) -> Boxes:
    """Return what is there, difficult objects as COCO's evaluation ignores them.

    It ignores an object beyond all sizes, and one detection that overlaps it enough: a difficult object stands there
    once for each detection that may.
    """
    if not ("difficult" in there and there["difficult"].any()):
        return there
    overlaps = pairwise_iou(there["boxes"].float(), found["boxes"].float()) > _LEAST_OVERLAP
    detections = (overlaps & (there["labels"][:, None] == found["labels"])).sum(1)
    times = detections.where(there["difficult"], 1)
    sized = there | {"area": there["area"].float().masked_fill(there["difficult"], torch.inf)}
    return {name: value.repeat_interleave(times, dim=0) for name, value in sized.items()}


def _on_cpu(boxes: Boxes) -> Boxes:
    return {name: value.detach().cpu() for name, value in boxes.items()}
