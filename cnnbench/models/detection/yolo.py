"""YOLO, one look: Joseph Redmon, Santosh Divvala, Ross Girshick, Ali Farhadi, 2015, https://arxiv.org/abs/1506.02640.

The one idea: a convolution says for each cell of a feature map, and for each of a few anchors there, where the object
is whose centre lies in the cell (x, y, w, h), whether there is one (objectness), and of what class.

The anchors are clustered from the data (YOLO9000, 2016, https://arxiv.org/abs/1612.08242), and the cells are those of
several maps (YOLOv3, 2018, https://arxiv.org/abs/1804.02767). Three things follow later practice: width and height are
squares of a sigmoid and not exponentials, and an object is given to the two nearest cells beside its own, to every
anchor that resembles it (Scaled-YOLOv4, 2020, https://arxiv.org/abs/2011.08036); and the box is trained by its CIoU,
which the objectness learns to tell (https://arxiv.org/abs/1911.08287).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.layers.boxes import are_large, box_iou, clip_boxes, convert_boxes
from cnnbench.layers.conv_norm import ConvNormAct
from cnnbench.layers.precision import at_least_float32
from cnnbench.models.detection.anchors import as_anchor_levels, size_iou
from cnnbench.models.detection.backbone import Backbone
from cnnbench.models.detection.detector import Detections, Detector, Size, Target
from cnnbench.models.detection.registry import DetectorInfo, register_detector
from cnnbench.models.detection.suppression import best, suppressed
from cnnbench.models.registry import Paper

COCO_ANCHORS = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))
PRIOR = 0.01  # the probability that an untrained head gives to anything
MIN_SIZE = 1e-2  # pixels of a detection's width and height


class YOLOHead(nn.Module):
    """A 3x3 convolution and a 1x1 convolution on each map: 5 + num_classes numbers for each anchor of each cell.

    Args:
        in_channels: Channels of each map.
        num_anchors: Anchors of each cell.
        num_classes: Classes of objects.
    """

    def __init__(self, in_channels: Sequence[int], num_anchors: int, num_classes: int) -> None:
        super().__init__()
        self.num_anchors = num_anchors
        outputs = num_anchors * (5 + num_classes)
        self.towers = nn.ModuleList(ConvNormAct(width, width, 3, padding=1) for width in in_channels)
        self.predictors = nn.ModuleList(nn.Conv2d(width, outputs, 1) for width in in_channels)
        for predictor in self.predictors:
            nn.init.normal_(predictor.weight, std=0.01)
            nn.init.zeros_(predictor.bias)
            nn.init.constant_(predictor.bias.data.view(num_anchors, -1)[:, 4], -math.log((1 - PRIOR) / PRIOR))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return for each map the raw numbers (B, H, W, num_anchors, 5 + num_classes), float32 at least."""
        raw = []
        for x, tower, predictor in zip(features, self.towers, self.predictors, strict=True):
            x = predictor(tower(x)).unflatten(1, (self.num_anchors, -1)).permute(0, 3, 4, 1, 2)
            raw.append(at_least_float32(x))
        return raw


@dataclass(frozen=True)
class _Matches:
    """Which predictions of one map are to find which objects."""

    image: Tensor
    row: Tensor
    column: Tensor
    anchor: Tensor
    object: Tensor


class YOLO(Detector):
    """A backbone and a YOLO head.

    Args:
        backbone: Makes the maps.
        num_classes: Classes of objects.
        anchors: Width and height of each, in pixels; the smallest go to the finest map, as many to each. See
            `cluster_anchors`. They are part of the state dict.
        ratio: An anchor resembles an object whose sides are at most so many times longer or shorter.
        loss_weights: Of box, objectness and classes.
        score_thresh: Detections have scores above it; a score is objectness times the class's probability.
        nms_thresh: Of two detections of a class whose IoU is above it the lower goes.
        max_candidates: Detections of an image before those that overlap are removed.
        detections_per_img: And afterwards.

    Raises:
        UserError: The anchors are no sizes, or cannot be given to the maps in equal parts.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        anchors: Sequence[Sequence[float]] = COCO_ANCHORS,
        ratio: float = 4.0,
        loss_weights: Sequence[float] = (0.05, 1.0, 1.0),
        score_thresh: float = 0.01,
        nms_thresh: float = 0.5,
        max_candidates: int = 1000,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__(backbone, num_classes)
        levels = as_anchor_levels(anchors, len(backbone.out_channels))
        self.register_buffer("anchors", levels)  # (L, A, 2)
        self.head = YOLOHead(backbone.out_channels, levels.shape[1], num_classes)
        self.ratio = ratio
        self.loss_weights = tuple(loss_weights)
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.max_candidates = max_candidates
        self.detections_per_img = detections_per_img

    def losses(
        self, features: Sequence[Tensor], targets: Sequence[Target], canvas: Size, extents: Sequence[Size]
    ) -> dict[str, Tensor]:
        """Return `loss_box`, `loss_objectness` and `loss_classes`; without objects the first and last are 0."""
        raw = self.head(features)
        boxes = torch.cat([target["boxes"] for target in targets])
        labels = torch.cat([target["labels"] for target in targets])
        owners = torch.cat([torch.full_like(target["labels"], i) for i, target in enumerate(targets)])
        overlaps, logits, classes, objectness, truths = [], [], [], [], []
        for level, x in enumerate(raw):
            found = self._matches(level, x, canvas, boxes, owners)
            at = (found.image, found.row, found.column, found.anchor)
            matched = x[at]  # (M, 5 + num_classes)
            cells = torch.stack((found.column, found.row), dim=-1)
            decoded = decode(matched, cells, _stride(x, canvas), self.anchors[level][found.anchor])
            overlaps.append(box_iou(decoded, boxes[found.object], "ciou"))
            logits.append(matched[:, 5:])
            classes.append(F.one_hot(labels[found.object], self.num_classes).to(x.dtype))
            objectness.append(x[..., 4].flatten())
            truths.append(_best_overlaps(x, at, overlaps[-1].detach()).flatten())
        return self._weighted(
            torch.cat(overlaps), torch.cat(logits), torch.cat(classes), torch.cat(objectness), torch.cat(truths)
        )

    def _weighted(
        self, overlaps: Tensor, logits: Tensor, classes: Tensor, objectness: Tensor, truths: Tensor
    ) -> dict[str, Tensor]:
        count = max(len(overlaps), 1)
        box, objects, kinds = self.loss_weights
        of_classes = F.binary_cross_entropy_with_logits(logits, classes, reduction="sum")
        return {
            "loss_box": box * (1 - overlaps).sum() / count,
            "loss_objectness": objects * F.binary_cross_entropy_with_logits(objectness, truths),
            "loss_classes": kinds * of_classes / (count * self.num_classes),
        }

    def _matches(self, level: int, x: Tensor, canvas: Size, boxes: Tensor, owners: Tensor) -> _Matches:
        """Give each object to the anchors like it, in its cell and the nearest one on either axis."""
        rows, columns = x.shape[1:3]
        objects, anchors = self._like(boxes)[:, level].nonzero(as_tuple=True)
        centres = convert_boxes(boxes[objects], "xyxy", "cxcywh")[:, :2] / _stride(x, canvas)
        cells = centres.floor()
        toward = torch.where(centres - cells < 0.5, -1.0, 1.0).to(cells.dtype)
        steps = toward.new_tensor([[0, 0], [1, 0], [0, 1]])[:, None] * toward  # (3, M, 2)
        column, row = (cells + steps).long().unbind(-1)
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        objects, anchors = objects.expand_as(row)[inside], anchors.expand_as(row)[inside]
        return _Matches(owners[objects], row[inside], column[inside], anchors, objects)

    def _like(self, boxes: Tensor) -> Tensor:
        """Return for each object, level and anchor whether they are alike; each object is like one at least."""
        sizes = boxes[:, 2:] - boxes[:, :2]
        anchors = self.anchors.to(sizes)
        ratios = sizes[:, None, None] / anchors  # (N, L, A, 2)
        like = torch.max(ratios, 1 / ratios).amax(dim=-1) < self.ratio
        nearest = size_iou(sizes, anchors.flatten(0, 1)).argmax(dim=1)
        return like | F.one_hot(nearest, anchors[..., 0].numel()).bool().view_as(like)

    def detect(self, features: Sequence[Tensor], canvas: Size, extents: Sequence[Size]) -> list[Detections]:
        """Return what is found in each image."""
        raw = self.head(features)
        places = [_places(x, canvas, anchors) for x, anchors in zip(raw, self.anchors, strict=True)]
        cells, strides, anchors = (torch.cat(parts) for parts in zip(*places, strict=True))
        flat = torch.cat([x.flatten(1, 3) for x in raw], dim=1)  # (B, N, 5 + num_classes)
        found = []
        for x, extent in zip(flat, extents, strict=True):
            chosen = torch.where(x[:, 4].sigmoid() > self.score_thresh)[0]  # no score is above the objectness
            x, place = x[chosen], [part[chosen] for part in (cells, strides, anchors)]
            scores = (x[:, 4:5].sigmoid() * x[:, 5:].sigmoid()).flatten()
            pairs = best(scores, self.score_thresh, self.max_candidates)
            candidates = pairs // self.num_classes
            boxes = clip_boxes(decode(x[candidates], *(part[candidates] for part in place)), extent)
            keep = are_large(boxes, MIN_SIZE)
            pairs = pairs[keep]
            labels = pairs % self.num_classes
            found.append(suppressed(boxes[keep], scores[pairs], labels, self.nms_thresh, self.detections_per_img))
        return found

    def answer(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the raw numbers (B, H, W, A, 5 + num_classes) of each map."""
        return tuple(self.head(features))


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


def _stride(x: Tensor, canvas: Size) -> Tensor:
    height, width = canvas
    return torch.tensor([width / x.shape[2], height / x.shape[1]], dtype=x.dtype, device=x.device)


def _places(x: Tensor, canvas: Size, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return cell, stride and anchor, each (H W A, 2), of every prediction of one map."""
    rows, columns, count = x.shape[1:4]
    row, column = (torch.arange(length, device=x.device) for length in (rows, columns))
    cells = torch.stack((column.expand(rows, columns), row[:, None].expand(rows, columns)), dim=-1)
    shape = (rows, columns, count, 2)
    parts = (cells[:, :, None], _stride(x, canvas), anchors)
    return tuple(part.expand(shape).reshape(-1, 2) for part in parts)


def _best_overlaps(x: Tensor, at: tuple[Tensor, ...], overlaps: Tensor) -> Tensor:
    """Return the objectness (B, H, W, A) that a map should show: the overlap of what it found, 0 elsewhere."""
    image, row, column, anchor = at
    shape = x.shape[:4]
    flat = ((image * shape[1] + row) * shape[2] + column) * shape[3] + anchor
    return x.new_zeros(shape).view(-1).scatter_reduce(0, flat, overlaps.clamp(min=0), "amax").view(shape)


register_detector(
    DetectorInfo(
        "yolo",
        YOLO,
        Paper(
            title="You Only Look Once: Unified, Real-Time Object Detection",
            authors="Joseph Redmon, Santosh Divvala, Ross Girshick, Ali Farhadi",
            year=2015,
            url="https://arxiv.org/abs/1506.02640",
        ),
        backbone={"strides": (8, 16, 32)},
        predictors=("head.predictors.*",),
    )
)
