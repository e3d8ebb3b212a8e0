"""Four images on one canvas: Bochkovskiy, Wang and Liao, "YOLOv4", 2020, https://arxiv.org/abs/2004.10934."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from cnnbench.data.detection.items import Item, cut, resized, size_of

_CENTRE = (0.25, 0.75)  # of the canvas's sides: where the four meet
_LONGER_SIDE = (0.5, 1.0)  # of the canvas's side: how large each image is shown


def mosaic(items: Sequence[Item], side: int) -> Item:
    """Return four items around a point of a square canvas, each with a corner there, cut at the edges.

    All is drawn from torch's generator: the point, and the size of each image.

    Args:
        items: Top left, top right, bottom left, bottom right; all with masks or none.
        side: Of the canvas, in pixels.
    """
    y, x = (int(side * part) for part in _between(_CENTRE, 2))
    quarters = [(0, 0, y, x), (0, x, y, side - x), (y, 0, side - y, x), (y, x, side - y, side - x)]
    placed = [_placed(item, quarter, side) for item, quarter in zip(items, quarters, strict=True)]
    whole = {name: torch.cat([item[name] for item in placed]) for name in placed[0] if name != "image"}
    boxes = tv_tensors.BoundingBoxes(whole["boxes"], format="XYXY", canvas_size=(side, side))
    image = torch.stack([item["image"].as_subclass(Tensor) for item in placed]).amax(0)  # each is black beside its own
    whole |= {"image": tv_tensors.Image(image), "boxes": boxes}
    return whole | {"masks": tv_tensors.Mask(whole["masks"])} if "masks" in whole else whole


def _placed(item: Item, quarter: tuple[int, int, int, int], side: int) -> Item:
    """Return an item in its quarter (top, left, height, width) of the canvas, which is black elsewhere."""
    top, left, height, width = quarter
    (longer,) = _between(_LONGER_SIDE, 1)
    scale = side * longer / max(size_of(item))
    item = resized(item, tuple(max(1, round(part * scale)) for part in size_of(item)))
    own_height, own_width = size_of(item)
    item = cut(item, 0 if top else own_height - height, 0 if left else own_width - width, height, width)
    return v2.Pad([left, top, side - left - width, side - top - height])(item)


def _between(limits: tuple[float, float], count: int) -> list[float]:
    low, high = limits
    return [low + (high - low) * draw for draw in torch.rand(count).tolist()]
