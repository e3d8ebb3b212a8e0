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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.layers.boxes import are_large, box_iou, clip_boxes
from cnnbench.layers.conv_norm import ConvNormAct
from cnnbench.layers.precision import at_least_float32
from cnnbench.models.detection.anchors import as_anchor_levels, cluster_anchors, unknown_anchors
from cnnbench.models.detection.backbone import Backbone
from cnnbench.models.detection.detector import Detections, Detector, Size, Target
from cnnbench.models.detection.registry import DetectorInfo, register_detector
from cnnbench.models.detection.suppression import best, suppressed
from cnnbench.models.detection.yolo_cells import alike, best_overlaps, decode, match, places, stride_of
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


class YOLO(Detector):
    """A backbone and a YOLO head.

    Args:
        backbone: Makes the maps.
        num_classes: Classes of objects.
        anchors: Width and height of each, in pixels; the smallest go to the finest map, as many to each. Or how many:
            they are clustered from the training data then, by `cluster`. They are part of the state dict.
        ratio: An anchor resembles an object whose sides are at most so many times longer or shorter.
        loss_weights: Of box, objectness and classes.
        score_thresh: Detections have scores above it; a score is objectness times the class's probability.
        nms_thresh: Of two detections of a class whose IoU is above it the lower goes.
        max_candidates: Detections of an image before those that overlap are removed.
        detections_per_img: And afterwards.

    Raises:
        UserError: The anchors are no sizes, or cannot be given to the maps in equal parts.
    """

    anchors: Tensor  # (L, A, 2), in pixels; NaN until they are clustered or loaded

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        anchors: Sequence[Sequence[float]] | int = COCO_ANCHORS,
        ratio: float = 4.0,
        loss_weights: Sequence[float] = (0.05, 1.0, 1.0),
        score_thresh: float = 0.01,
        nms_thresh: float = 0.5,
        max_candidates: int = 1000,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__(backbone, num_classes)
        count = len(backbone.out_channels)
        levels = unknown_anchors(anchors, count) if isinstance(anchors, int) else as_anchor_levels(anchors, count)
        self.register_buffer("anchors", levels)
        self.head = YOLOHead(backbone.out_channels, levels.shape[1], num_classes)
        self.ratio = ratio
        self.loss_weights = tuple(loss_weights)
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.max_candidates = max_candidates
        self.detections_per_img = detections_per_img

    @property
    def wants_sizes(self) -> bool:
        """Whether the anchors are not known yet: how many was given, and neither sizes nor weights."""
        return bool(self.anchors.isnan().any())

    def cluster(self, sizes: Tensor) -> None:
        """Make anchors that resemble objects of these sizes, (N, 2), width and height in pixels.

        Raises:
            UserError: There are fewer different sizes than anchors.
        """
        levels = as_anchor_levels(cluster_anchors(sizes, self.anchors[..., 0].numel()), len(self.anchors))
        self.anchors.copy_(levels)

    def losses(
        self, features: Sequence[Tensor], targets: Sequence[Target], canvas: Size, extents: Sequence[Size]
    ) -> dict[str, Tensor]:
        """Return `loss_box`, `loss_objectness` and `loss_classes`; without objects the first and last are 0."""
        raw = self.head(features)
        boxes = torch.cat([target["boxes"] for target in targets])
        labels = torch.cat([target["labels"] for target in targets])
        owners = torch.cat([torch.full_like(target["labels"], i) for i, target in enumerate(targets)])
        overlaps, logits, classes, objectness, truths = [], [], [], [], []
        like = alike(boxes, self.anchors, self.ratio)
        for level, x in enumerate(raw):
            found = match(x, canvas, boxes, owners, like[:, level])
            matched = x[found.at]  # (M, 5 + num_classes)
            decoded = decode(matched, found.cells, stride_of(x, canvas), self.anchors[level][found.at[-1]])
            overlaps.append(box_iou(decoded, boxes[found.object], "ciou"))
            logits.append(matched[:, 5:])
            classes.append(F.one_hot(labels[found.object], self.num_classes).to(x.dtype))
            objectness.append(x[..., 4].flatten())
            truths.append(best_overlaps(x, found.at, overlaps[-1].detach()).flatten())
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

    def detect(self, features: Sequence[Tensor], canvas: Size, extents: Sequence[Size]) -> list[Detections]:
        """Return what is found in each image."""
        raw = self.head(features)
        of_maps = [places(x, canvas, anchors) for x, anchors in zip(raw, self.anchors, strict=True)]
        cells, strides, anchors = (torch.cat(parts) for parts in zip(*of_maps, strict=True))
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
