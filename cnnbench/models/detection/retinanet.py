"""RetinaNet: Tsung-Yi Lin, Priya Goyal, Ross Girshick, Kaiming He, Piotr Dollár, 2017, https://arxiv.org/abs/1708.02002.

The one idea: one stage suffices if the loss of the many easy anchors of the background is turned down, so that they do
not drown the few on objects: the focal loss.

Its state dict is that of `torchvision.models.detection.RetinaNet`, and so are the names of its arguments; the losses'
begin with `loss_`, as the other detectors' do.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.layers.boxes import clip_boxes, decode_boxes, encode_boxes
from cnnbench.models.detection.anchors import AnchorGenerator
from cnnbench.models.detection.backbone import Backbone
from cnnbench.models.detection.detector import Detections, Detector, Size, Target
from cnnbench.models.detection.matching import BETWEEN, match
from cnnbench.models.detection.published import Published
from cnnbench.models.detection.registry import DetectorInfo, register_detector
from cnnbench.models.detection.rpn import by_anchor
from cnnbench.models.detection.suppression import best, suppressed
from cnnbench.models.detection.torchvision_detectors import GROUPS, TorchvisionRetinaNet
from cnnbench.models.registry import Paper

PRIOR = 0.01  # the probability of an object that an untrained head gives to anything
ANCHOR_SIZES = tuple(tuple(int(size * 2 ** (part / 3)) for part in range(3)) for size in (32, 64, 128, 256, 512))


class ClassHead(nn.Module):
    """Four 3x3 convolutions and one that gives the logits of the classes of each anchor.

    Args:
        in_channels: Of every feature map.
        num_anchors: At each position.
        num_classes: Classes of objects.
        group_norm: Whether the towers normalise.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, group_norm: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv = _tower(in_channels, group_norm)
        self.cls_logits = _conv(in_channels, num_anchors * num_classes)
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return for each map the logits (B, H W A, K), float32 at least."""
        return [by_anchor(self.cls_logits(self.conv(x)), self.num_classes) for x in features]


class BoxHead(nn.Module):
    """Four 3x3 convolutions and one that gives the offsets of a box from each anchor.

    Args:
        in_channels: Of every feature map.
        num_anchors: At each position.
        group_norm: Whether its tower normalises.
    """

    def __init__(self, in_channels: int, num_anchors: int, group_norm: bool = False) -> None:
        super().__init__()
        self.conv = _tower(in_channels, group_norm)
        self.bbox_reg = _conv(in_channels, num_anchors * 4)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return for each map the offsets (B, H W A, 4), float32 at least."""
        return [by_anchor(self.bbox_reg(self.conv(x)), 4) for x in features]


class RetinaNetHead(nn.Module):
    """Both heads, of which every feature map has the same.

    Args:
        in_channels: Of every feature map.
        num_anchors: At each position.
        num_classes: Classes of objects.
        group_norm: Whether the towers normalise.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, group_norm: bool = False) -> None:
        super().__init__()
        self.classification_head = ClassHead(in_channels, num_anchors, num_classes, group_norm)
        self.regression_head = BoxHead(in_channels, num_anchors, group_norm)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return for each map the logits (B, H W A, K) and the offsets (B, H W A, 4)."""
        return self.classification_head(features), self.regression_head(features)


class RetinaNet(Detector):
    """A backbone with a pyramid and a dense head on all its levels.

    Args:
        backbone: Makes the maps.
        num_classes: Classes of objects.
        anchor_sizes: For each level the sides of its anchors, in pixels.
        aspect_ratios: Of the anchors, heights over widths.
        group_norm: Let GroupNorm follow each convolution of the heads' towers, as in torchvision's second version; the
            head then learns much faster from nothing.
        fg_iou_thresh: An anchor of at least that IoU with an object is to find it.
        bg_iou_thresh: One below that with all is background.
        score_thresh: Detections have scores above it.
        nms_thresh: Of two detections of a class whose IoU is above it the lower goes.
        topk_candidates: Of a level, before those that overlap are removed.
        detections_per_img: At most.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        anchor_sizes: Sequence[Sequence[float]] = ANCHOR_SIZES,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        group_norm: bool = False,
        fg_iou_thresh: float = 0.5,
        bg_iou_thresh: float = 0.4,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        topk_candidates: int = 1000,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__(backbone, num_classes)
        channels = backbone.common_channels("retinanet", len(anchor_sizes))
        self.anchors = AnchorGenerator(anchor_sizes, aspect_ratios)
        self.head = RetinaNetHead(channels, self.anchors.count, num_classes, group_norm)
        self.fg_iou_thresh, self.bg_iou_thresh = fg_iou_thresh, bg_iou_thresh
        self.score_thresh, self.nms_thresh = score_thresh, nms_thresh
        self.topk_candidates, self.detections_per_img = topk_candidates, detections_per_img

    def losses(
        self, features: Sequence[Tensor], targets: Sequence[Target], canvas: Size, extents: Sequence[Size]
    ) -> dict[str, Tensor]:
        """Return `loss_classes` and `loss_box`, each image's in proportion to the anchors on its objects."""
        logits, offsets = (torch.cat(of_maps, dim=1) for of_maps in self.head(features))
        anchors = torch.cat(self.anchors(features, canvas))
        images = [self._of_image(*parts, anchors) for parts in zip(logits, offsets, targets, strict=True)]
        of_classes, of_boxes = (torch.stack(losses).mean() for losses in zip(*images, strict=True))
        return {"loss_classes": of_classes, "loss_box": of_boxes}

    def _of_image(self, logits: Tensor, offsets: Tensor, target: Target, anchors: Tensor) -> tuple[Tensor, Tensor]:
        matches = match(target["boxes"], anchors, self.bg_iou_thresh, self.fg_iou_thresh, every_box=True)
        positive = torch.where(matches >= 0)[0]
        found = matches[positive]
        truth = torch.zeros_like(logits)
        truth[positive, target["labels"][found]] = 1.0
        valid = matches != BETWEEN
        of_classes = focal_loss(logits[valid], truth[valid])
        wanted = encode_boxes(target["boxes"][found], anchors[positive])
        of_boxes = F.l1_loss(offsets[positive], wanted, reduction="sum")
        count = max(len(positive), 1)
        return of_classes / count, of_boxes / count

    def detect(self, features: Sequence[Tensor], canvas: Size, extents: Sequence[Size]) -> list[Detections]:
        """Return what is found in each image."""
        logits, offsets = self.head(features)
        anchors = self.anchors(features, canvas)
        by_image = zip(zip(*logits, strict=True), zip(*offsets, strict=True), extents, strict=True)
        return [self._found(*parts, anchors) for parts in by_image]

    def _found(
        self, logits: Sequence[Tensor], offsets: Sequence[Tensor], extent: Size, anchors: Sequence[Tensor]
    ) -> Detections:
        boxes, scores, labels = [], [], []
        for of_map, moved, around in zip(logits, offsets, anchors, strict=True):
            probabilities = of_map.sigmoid().flatten()
            pairs = best(probabilities, self.score_thresh, self.topk_candidates)
            place = pairs // self.num_classes
            boxes.append(clip_boxes(decode_boxes(moved[place], around[place]), extent))
            scores.append(probabilities[pairs])
            labels.append(pairs % self.num_classes)
        together = torch.cat(boxes), torch.cat(scores), torch.cat(labels)
        return suppressed(*together, self.nms_thresh, self.detections_per_img)

    def answer(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the logits of each map, and then the offsets."""
        logits, offsets = self.head(features)
        return (*logits, *offsets)


def focal_loss(logits: Tensor, truth: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the sum of the focal losses (equation 5).

    Args:
        logits: Of any shape.
        truth: Of the same shape, 0 or 1.
        alpha: Weight of what is true; 1 - alpha of what is not.
        gamma: How fast what is already told rightly ceases to count.
    """
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    wrong = (logits.sigmoid() - truth).abs()  # 1 - p_t
    return ((alpha * truth + (1 - alpha) * (1 - truth)) * wrong**gamma * loss).sum()


def _tower(channels: int, group_norm: bool) -> nn.Sequential:
    def block() -> nn.Sequential:
        norm = (nn.GroupNorm(GROUPS, channels),) if group_norm else ()
        return nn.Sequential(_conv(channels, channels, bias=not group_norm), *norm, nn.ReLU(inplace=True))

    return nn.Sequential(*(block() for _ in range(4)))


def _conv(in_channels: int, out_channels: int, bias: bool = True) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
    nn.init.normal_(conv.weight, std=0.01)
    if bias:
        nn.init.zeros_(conv.bias)
    return conv


PREDICTORS = ("head.classification_head.cls_logits",)
PAPER = Paper(
    title="Focal Loss for Dense Object Detection",
    authors="Tsung-Yi Lin, Priya Goyal, Ross Girshick, Kaiming He, Piotr Dollár",
    year=2017,
    url="https://arxiv.org/abs/1708.02002",
)
PYRAMID = {"strides": (8, 16, 32), "extra_levels": "convs"}

register_detector(
    DetectorInfo(
        "retinanet", RetinaNet, PAPER, backbone=PYRAMID, reference=TorchvisionRetinaNet, predictors=PREDICTORS
    ),
    DetectorInfo(
        "retinanet_resnet50_fpn",
        RetinaNet,
        PAPER,
        backbone=PYRAMID,
        predictors=PREDICTORS,
        reference=TorchvisionRetinaNet,
        published=Published(
            url="https://download.pytorch.org/models/retinanet_resnet50_fpn_coco-eeacb38b.pth",
            backbone="resnet50",
            num_classes=91,
        ),
    ),
)
