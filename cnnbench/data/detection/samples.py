"""An image with its boxes, and a batch of images of unequal size."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap

import torch
from torch import Tensor

from cnnbench.data.base import Batch

STRIDE = 32  # a canvas's sides are multiples of it, so that a backbone's coarsest features fit it


@dataclass(frozen=True)
class Sample:
    """An image with its boxes.

    Attributes:
        image: uint8 (C, H, W).
        boxes: float32 (N, 4), x1, y1, x2, y2 in pixels of `image`.
        labels: int64 (N,), from 0.
        crowd: bool (N,): not to be trained on; in evaluation what is found in it is ignored.
        difficult: bool (N,): not to be trained on; in evaluation its detections are ignored.
        area: float32 (N,), in pixels of the original image.
        original_size: Height and width of the original image.
        index: The image's place in its dataset.
        key: Of its augmentation; None in evaluation.
        masks: bool (N, H, W), of each object; None where nobody asked for them.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    difficult: Tensor
    area: Tensor
    original_size: tuple[int, int]
    index: int
    key: int | None = None
    masks: Tensor | None = None


def collate(samples: Sequence[Sample], canvas: tuple[int, int] = (1, 1)) -> Batch:
    """Return samples as a batch, as `DetectionDataModule` describes it, the images uint8 and black where padded.

    Args:
        samples: At least one, all with keys or none, all with masks or none.
        canvas: Least height and width, which the largest image and the next multiple of 32 only add to.
    """
    sizes = torch.tensor([sample.image.shape[1:] for sample in samples])  # (B, 2)
    height, width = (_next_multiple(side) for side in map(max, sizes.amax(0).tolist(), canvas))
    images = torch.zeros(len(samples), len(samples[0].image), height, width, dtype=torch.uint8)
    mask = torch.zeros(len(samples), height, width, dtype=torch.bool)
    for sample, image, own_mask in zip(samples, images, mask, strict=True):
        h, w = sample.image.shape[1:]
        image[:, :h, :w] = sample.image
        own_mask[:h, :w] = True
    original = torch.tensor([sample.original_size for sample in samples])
    batch = {
        "image": images,
        "mask": mask,
        "size": sizes,
        "boxes": _padded([sample.boxes for sample in samples], 0),
        "label": _padded([sample.labels for sample in samples], -1),
        "crowd": _padded([sample.crowd for sample in samples], False),
        "difficult": _padded([sample.difficult for sample in samples], False),
        "area": _padded([sample.area for sample in samples], 0),
        "scale": sizes.float() / original,
        "original_size": original,
        "index": torch.tensor([sample.index for sample in samples]),
    }
    if samples[0].masks is not None:
        batch["object_masks"] = _on_canvas([sample.masks for sample in samples], height, width)
    if samples[0].key is not None:
        batch["key"] = torch.tensor([sample.key for sample in samples])
    return batch


def targets_of(batch: Batch) -> list[dict[str, Tensor]]:
    """Return what a detector is trained on, an image each.

    Args:
        batch: Of a `DetectionDataModule`.

    Returns:
        `boxes` float32 (N, 4), x1, y1, x2, y2 in pixels of the canvas, and `labels` int64 (N,), without crowds and
        difficult objects; `masks` bool (N, H, W) where the batch has them.
    """
    wanted = (batch["label"] >= 0) & ~batch["crowd"] & ~batch["difficult"]
    columns = {"boxes": "boxes", "labels": "label", "masks": "object_masks"}
    return [
        {name: batch[column][row][own] for name, column in columns.items() if column in batch}
        for row, own in enumerate(wanted)
    ]


def truth_of(batch: Batch) -> list[dict[str, Tensor]]:
    """Return what detections are judged by, an image each, as `AveragePrecision` takes it.

    Args:
        batch: Of a `DetectionDataModule`.

    Returns:
        `boxes` float32 (N, 4), x1, y1, x2, y2 in pixels of the original image, `labels` int64 (N,), `iscrowd` int64
        (N,), `difficult` bool (N,) and `area` float32 (N,).
    """

    def of_image(row: int) -> dict[str, Tensor]:
        own = batch["label"][row] >= 0
        return {
            "boxes": batch["boxes"][row][own] / _each_side(batch["scale"][row]),
            "labels": batch["label"][row][own],
            "iscrowd": batch["crowd"][row][own].long(),
            "difficult": batch["difficult"][row][own],
            "area": batch["area"][row][own],
        }

    return [of_image(row) for row in range(len(batch["label"]))]


def in_original_pixels(detections: Sequence[dict[str, Tensor]], batch: Batch) -> list[dict[str, Tensor]]:
    """Return a detector's detections with boxes in pixels of the original images, and within them.

    Args:
        detections: One dict an image, with `boxes` (N, 4) in pixels of the canvas.
        batch: That they were made from.
    """

    def of_image(detected: dict[str, Tensor], scale: Tensor, size: Tensor) -> dict[str, Tensor]:
        boxes = detected["boxes"] / _each_side(scale)
        return detected | {"boxes": boxes.clamp(min=torch.zeros_like(boxes), max=_each_side(size).to(boxes.dtype))}

    return list(starmap(of_image, zip(detections, batch["scale"], batch["original_size"], strict=True)))


def _each_side(height_width: Tensor) -> Tensor:
    """Return (height, width) as (width, height, width, height), for the sides of a box."""
    return height_width.flip(0).repeat(2)


def _padded(rows: Sequence[Tensor], value: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def _on_canvas(masks: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Return the masks (N, H, W) of some images as one tensor (B, M, height, width)."""
    whole = torch.zeros(len(masks), max(map(len, masks)), height, width, dtype=torch.bool)
    for own, place in zip(masks, whole, strict=True):
        place[: len(own), : own.shape[1], : own.shape[2]] = own
    return whole


def _next_multiple(side: int) -> int:
    return -(-side // STRIDE) * STRIDE
