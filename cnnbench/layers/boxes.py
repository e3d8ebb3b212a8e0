"""Arithmetic of boxes: formats, areas, overlaps, offsets from anchors, clipping.

A box is four numbers in the last dimension of a tensor; unless a format is named it is xyxy, the left, upper, right and
lower edge in pixels, with x2 > x1 and y2 > y1.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)  # of a box over its anchor: exp() of an untrained network's output stays finite

_TO_XYXY: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]] = {
    "xyxy": lambda x1, y1, x2, y2: (x1, y1, x2, y2),
    "xywh": lambda x, y, w, h: (x, y, x + w, y + h),
    "cxcywh": lambda cx, cy, w, h: (cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h),
}
_FROM_XYXY: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]] = {
    "xyxy": lambda x1, y1, x2, y2: (x1, y1, x2, y2),
    "xywh": lambda x1, y1, x2, y2: (x1, y1, x2 - x1, y2 - y1),
    "cxcywh": lambda x1, y1, x2, y2: (0.5 * (x1 + x2), 0.5 * (y1 + y2), x2 - x1, y2 - y1),
}
BOX_FORMATS = tuple(_TO_XYXY)
IOU_KINDS = ("iou", "giou", "diou", "ciou")


def convert_boxes(boxes: Tensor, source: str, target: str) -> Tensor:
    """Return boxes (..., 4) in another format.

    Args:
        boxes: In the format `source`.
        source: "xyxy" (edges), "xywh" (left, upper edge, width, height) or "cxcywh" (centre, width, height).
        target: The format wanted.

    Raises:
        ValueError: There is no such format.
    """
    for name in (source, target):
        if name not in BOX_FORMATS:
            raise ValueError(f"a box format is one of {', '.join(BOX_FORMATS)}, not {name!r}")
    if source == target:
        return boxes
    return torch.stack(_FROM_XYXY[target](*_TO_XYXY[source](*boxes.unbind(-1))), dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Return the areas (...) of boxes (..., 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1) * (y2 - y1)


def box_iou(boxes: Tensor, others: Tensor, kind: str = "iou") -> Tensor:
    """Return how far boxes overlap others, each with its counterpart; the shapes are broadcast.

    Args:
        boxes: (..., 4).
        others: (..., 4).
        kind: "iou", intersection over union; "giou" subtracts what of the smallest box around both is in neither
            (Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630); "diou" the squared distance of the centres
            over the squared diagonal of that box, and "ciou" also a term for unlike proportions (Zheng et al. 2020,
            https://arxiv.org/abs/1911.08287).

    Returns:
        The overlaps (...), at most 1; of boxes without area 0, less a penalty.

    Raises:
        ValueError: There is no such kind.
    """
    return _overlap(boxes.unbind(-1), others.unbind(-1), kind)


def pairwise_iou(boxes: Tensor, others: Tensor, kind: str = "iou") -> Tensor:
    """Return how far each of boxes (N, 4) overlaps each of others (M, 4), as (N, M); see `box_iou`."""
    columns = boxes.T.contiguous()[:, :, None].unbind(0)  # contiguous, since a column is read for each pair
    return _overlap(columns, others.T.contiguous().unbind(0), kind)


def _overlap(boxes: Sequence[Tensor], others: Sequence[Tensor], kind: str) -> Tensor:
    if kind not in IOU_KINDS:
        raise ValueError(f"an overlap is one of {', '.join(IOU_KINDS)}, not {kind!r}")
    (x1, y1, x2, y2), (u1, v1, u2, v2) = boxes, others
    eps = torch.finfo(x1.dtype).eps
    common = (torch.min(x2, u2) - torch.max(x1, u1)).clamp(min=0) * (torch.min(y2, v2) - torch.max(y1, v1)).clamp(min=0)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - common
    iou = common / union.clamp(min=eps)
    if kind == "iou":
        return iou
    width, height = torch.max(x2, u2) - torch.min(x1, u1), torch.max(y2, v2) - torch.min(y1, v1)  # around both
    if kind == "giou":
        around = width * height
        return iou - (around - union) / around.clamp(min=eps)
    distance = ((x1 + x2 - u1 - u2) ** 2 + (y1 + y2 - v1 - v2) ** 2) / 4
    diou = iou - distance / (width**2 + height**2).clamp(min=eps)
    if kind == "diou":
        return diou
    angle = torch.atan((x2 - x1) / (y2 - y1).clamp(min=eps)) - torch.atan((u2 - u1) / (v2 - v1).clamp(min=eps))
    unlike = 4 / math.pi**2 * angle**2
    with torch.no_grad():
        weight = unlike / (1 - iou + unlike).clamp(min=eps)
    return diou - weight * unlike


def encode_boxes(boxes: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Return boxes as offsets from anchors (Girshick et al. 2014, https://arxiv.org/abs/1311.2524, appendix C).

    Args:
        boxes: (..., 4), with width and height above 0.
        anchors: (..., 4), likewise.
        weights: Factors of the four offsets.

    Returns:
        (..., 4): distance of the centres, in widths and heights of the anchor, and logarithm of the ratio of widths
        and of heights.
    """
    cx, cy, w, h = convert_boxes(boxes, "xyxy", "cxcywh").unbind(-1)
    ax, ay, aw, ah = convert_boxes(anchors, "xyxy", "cxcywh").unbind(-1)
    offsets = ((cx - ax) / aw, (cy - ay) / ah, torch.log(w / aw), torch.log(h / ah))
    return torch.stack([weight * offset for weight, offset in zip(weights, offsets, strict=True)], dim=-1)


def decode_boxes(offsets: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Return the boxes (..., 4) that lie by `offsets` from `anchors`: the inverse of `encode_boxes`.

    Args:
        offsets: (..., 4); a box becomes at most 62.5 times as wide or high as its anchor.
        anchors: (..., 4), broadcast.
        weights: Those that `encode_boxes` was given.
    """
    ax, ay, aw, ah = convert_boxes(anchors, "xyxy", "cxcywh").unbind(-1)
    dx, dy, dw, dh = (offset / weight for offset, weight in zip(offsets.unbind(-1), weights, strict=True))
    w, h = torch.exp(dw.clamp(max=MAX_LOG_SCALE)) * aw, torch.exp(dh.clamp(max=MAX_LOG_SCALE)) * ah
    return torch.stack(_TO_XYXY["cxcywh"](dx * aw + ax, dy * ah + ay, w, h), dim=-1)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes (..., 4) with edges outside an image of `size` (height, width) moved onto its border."""
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    edges = (x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height))
    return torch.stack(edges, dim=-1)


def are_large(boxes: Tensor, min_size: float) -> Tensor:
    """Return for boxes (..., 4) whether width and height are `min_size` at least, as bool (...)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1 >= min_size) & (y2 - y1 >= min_size)
