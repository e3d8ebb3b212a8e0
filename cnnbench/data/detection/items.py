"""What torchvision's transforms vary: an image, its boxes and masks, and what else belongs to each box."""

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from cnnbench.data.detection.samples import Sample

Item = dict[str, Tensor]
"""`image` a tv_tensors.Image (C, H, W), `boxes` tv_tensors.BoundingBoxes (N, 4), `labels`, `crowd` and `difficult`
(N,), and where objects have masks `masks`, a tv_tensors.Mask (N, H, W)."""

LEAST_LEFT = 0.25  # part of a box that a cut must leave of it, or the object is gone


def item_of(
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    crowd: Tensor | None = None,
    difficult: Tensor | None = None,
    masks: Tensor | None = None,
) -> Item:
    """Return an image and its objects, boxes in its pixels, as torchvision's transforms take them."""
    size = tuple(image.shape[-2:])
    boxes = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
    none = torch.zeros(len(labels), dtype=torch.bool)
    item = {"image": tv_tensors.Image(image), "boxes": boxes, "labels": labels}
    item |= {"crowd": none if crowd is None else crowd, "difficult": none if difficult is None else difficult}
    return item if masks is None else item | {"masks": tv_tensors.Mask(masks)}


def sample_of(
    item: Item, area: Tensor | None, original_size: tuple[int, int], index: int, key: int | None = None
) -> Sample:
    """Return an item as a sample; without `area`, that of its boxes."""
    boxes = item["boxes"].as_subclass(Tensor)
    if area is None:
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    image, *objects = item["image"].as_subclass(Tensor), boxes, item["labels"], item["crowd"], item["difficult"]
    masks = item["masks"].as_subclass(Tensor) if "masks" in item else None
    return Sample(image, *objects, area, original_size, index, key, masks)


def size_of(item: Item) -> tuple[int, int]:
    """Return height and width."""
    return tuple(item["image"].shape[-2:])


def resized(item: Item, size: tuple[int, int]) -> Item:
    """Return an item at another height and width, bilinearly and with antialiasing, masks by the nearest pixel."""
    return item if size == size_of(item) else v2.Resize(size, antialias=True)(item)


def cut(item: Item, top: int, left: int, height: int, width: int) -> Item:
    """Return a part of an item, black where it reaches beyond the image; an object of which too little is left goes."""
    before = _areas(item)
    part = item | {
        name: v2.functional.crop(value, top, left, height, width)
        for name, value in item.items()
        if isinstance(value, tv_tensors.TVTensor)
    }
    return chosen(part, _areas(part) >= LEAST_LEFT * before.clamp(min=1e-9))


def chosen(item: Item, objects: Tensor) -> Item:
    """Return an item with some of its objects, bool (N,)."""
    own = {name: value for name, value in item.items() if name != "image"}
    return item | {name: _like(value[objects], value) for name, value in own.items()}


def _areas(item: Item) -> Tensor:
    boxes = item["boxes"].as_subclass(Tensor)
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def _like(value: Tensor, old: Any) -> Tensor:
    return tv_tensors.wrap(value, like=old) if isinstance(old, tv_tensors.TVTensor) else value
