"""Which cell of a map and which anchor there stand for which box: what YOLO is told to find, and what it says."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.layers.boxes import convert_boxes
from cnnbench.models.detection.anchors import size_iou
from cnnbench.models.detection.detector import Size


@dataclass(frozen=True)
class Matches:
    """Which predictions of one map are to find which objects.

    Attributes:
        at: Image, row, column and anchor of each, (M,).
        cells: Column and row of each, (M, 2).
        object: The object's place, (M,).
    """

    at: tuple[Tensor, Tensor, Tensor, Tensor]
    cells: Tensor
    object: Tensor


def match(x: Tensor, canvas: Size, boxes: Tensor, owners: Tensor, like: Tensor) -> Matches:
    """Give each object to the anchors like it, in its cell and the nearest one on either axis.

    Args:
        x: What the head says of a map, (B, H, W, A, ...).
        canvas: Height and width of the images.
        boxes: (N, 4), xyxy in pixels.
        owners: The image of each, (N,).
        like: Which anchors of the map are like it, bool (N, A).
    """
    rows, columns = x.shape[1:3]
    objects, anchors = like.nonzero(as_tuple=True)
    centres = convert_boxes(boxes[objects], "xyxy", "cxcywh")[:, :2] / stride_of(x, canvas)
    cells = centres.floor()
    toward = torch.where(centres - cells < 0.5, -1.0, 1.0).to(cells.dtype)
    steps = toward.new_tensor([[0, 0], [1, 0], [0, 1]])[:, None] * toward  # (3, M, 2)
    cells = (cells + steps).long()
    column, row = cells.unbind(-1)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    objects, anchors = objects.expand_as(row)[inside], anchors.expand_as(row)[inside]
    return Matches((owners[objects], row[inside], column[inside], anchors), cells[inside], objects)


def alike(boxes: Tensor, anchors: Tensor, ratio: float) -> Tensor:
    """Return for each object, level and anchor whether they are alike; each object is like one at least.

    Args:
        boxes: (N, 4), xyxy in pixels.
        anchors: (L, A, 2), width and height.
        ratio: The sides of what is alike are at most so many times longer or shorter.

    Returns:
        Bool (N, L, A).
    """
    sizes = boxes[:, 2:] - boxes[:, :2]
    anchors = anchors.to(sizes)
    ratios = sizes[:, None, None] / anchors  # (N, L, A, 2)
    like = torch.max(ratios, 1 / ratios).amax(dim=-1) < ratio
    nearest = size_iou(sizes, anchors.flatten(0, 1)).argmax(dim=1)
    return like | F.one_hot(nearest, anchors[..., 0].numel()).bool().view_as(like)


def decode(raw: Tensor, cells: Tensor, stride: Tensor, anchors: Tensor) -> Tensor:
    """Return the boxes (M, 4) that a head's numbers stand for.

    Args:
        raw: (M, 4 or more): x, y, w, h before their sigmoids.
        cells: (M, 2), column and row.
        stride: Pixels from cell to cell on either axis, (2,) or (M, 2).
        anchors: (M, 2), width and height in pixels.
    """
    part = raw[:, :4].sigmoid() * 2
    centres = (part[:, :2] - 0.5 + cells) * stride  # from half a cell before the cell to half a cell behind it
    sizes = part[:, 2:] ** 2 * anchors.to(part)
    return torch.cat((centres - sizes / 2, centres + sizes / 2), dim=1)


def stride_of(x: Tensor, canvas: Size) -> Tensor:
    """Return pixels from cell to cell of a map x (B, H, W, ...), across and down."""
    height, width = canvas
    return torch.tensor([width / x.shape[2], height / x.shape[1]], dtype=x.dtype, device=x.device)


def places(x: Tensor, canvas: Size, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return cell, stride and anchor, each (H W A, 2), of every prediction of one map x (B, H, W, A, ...)."""
    rows, columns, count = x.shape[1:4]
    row, column = (torch.arange(length, device=x.device) for length in (rows, columns))
    cells = torch.stack((column.expand(rows, columns), row[:, None].expand(rows, columns)), dim=-1)
    shape = (rows, columns, count, 2)
    parts = (cells[:, :, None], stride_of(x, canvas), anchors)
    return tuple(part.expand(shape).reshape(-1, 2) for part in parts)


def best_overlaps(x: Tensor, at: tuple[Tensor, ...], overlaps: Tensor) -> Tensor:
    """Return the objectness (B, H, W, A) that a map should show: the overlap of what it found, 0 elsewhere."""
    image, row, column, anchor = at
    shape = x.shape[:4]
    flat = ((image * shape[1] + row) * shape[2] + column) * shape[3] + anchor
    return x.new_zeros(shape).view(-1).scatter_reduce(0, flat, overlaps.clamp(min=0), "amax").view(shape)
