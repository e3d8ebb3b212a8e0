"""Faster R-CNN: Shaoqing Ren, Kaiming He, Ross Girshick, Jian Sun, 2015, https://arxiv.org/abs/1506.01497.

The one idea: two stages that share their features, a network that proposes regions and one that says what is in them,
trained together. With a feature pyramid (Lin et al. 2017, https://arxiv.org/abs/1612.03144) it is the detector that
others are measured by.

Its state dict is that of `torchvision.models.detection.FasterRCNN`, and so are the names of its arguments and losses.
"""

from collections.abc import Sequence

from torch import Tensor

from cnnbench.models.detection.anchors import AnchorGenerator
from cnnbench.models.detection.backbone import Backbone
from cnnbench.models.detection.detector import Detections, Detector, Size, Target
from cnnbench.models.detection.published import Published
from cnnbench.models.detection.registry import DetectorInfo, register_detector
from cnnbench.models.detection.roi_heads import RoIHeads
from cnnbench.models.detection.rpn import RPN
from cnnbench.models.detection.torchvision_detectors import TorchvisionFasterRCNN
from cnnbench.models.registry import Paper


class FasterRCNN(Detector):
    """A backbone with a pyramid, an RPN on all its levels, and box heads on all but those added to the pyramid.

    Args:
        backbone: Makes the maps.
        num_classes: Classes of objects.
        anchor_sizes: For each level the sides of its anchors, in pixels.
        aspect_ratios: Of the anchors, heights over widths.
        rpn_pre_nms_top_n_train: Proposals of a level before those that overlap are removed, in training.
        rpn_pre_nms_top_n_test: And in evaluation.
        rpn_post_nms_top_n_train: Proposals of an image afterwards, in training.
        rpn_post_nms_top_n_test: And in evaluation.
        rpn_nms_thresh: Of two proposals whose IoU is above it the lower goes.
        rpn_fg_iou_thresh: An anchor of at least that IoU with an object is to find it.
        rpn_bg_iou_thresh: One below that with all is background.
        rpn_batch_size_per_image: Anchors of an image that are learned from.
        rpn_positive_fraction: Part of them that may be on objects.
        representation_size: Width of the box head.
        canonical_size: Side in pixels of a region that is cut from the level of stride 16.
        box_fg_iou_thresh: A proposal of at least that IoU with an object is to find it; others are background.
        box_batch_size_per_image: Proposals of an image that are learned from.
        box_positive_fraction: Part of them that may be on objects.
        box_score_thresh: Detections have scores above it.
        box_nms_thresh: Of two detections of a class whose IoU is above it the lower goes.
        detections_per_img: At most.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        anchor_sizes: Sequence[Sequence[float]] = ((32,), (64,), (128,), (256,), (512,)),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        rpn_pre_nms_top_n_train: int = 2000,
        rpn_pre_nms_top_n_test: int = 1000,
        rpn_post_nms_top_n_train: int = 2000,
        rpn_post_nms_top_n_test: int = 1000,
        rpn_nms_thresh: float = 0.7,
        rpn_fg_iou_thresh: float = 0.7,
        rpn_bg_iou_thresh: float = 0.3,
        rpn_batch_size_per_image: int = 256,
        rpn_positive_fraction: float = 0.5,
        representation_size: int = 1024,
        canonical_size: float = 224.0,
        box_fg_iou_thresh: float = 0.5,
        box_batch_size_per_image: int = 512,
        box_positive_fraction: float = 0.25,
        box_score_thresh: float = 0.05,
        box_nms_thresh: float = 0.5,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__(backbone, num_classes)
        channels = backbone.common_channels("faster_rcnn", len(anchor_sizes))
        self.rpn = RPN(
            channels,
            AnchorGenerator(anchor_sizes, aspect_ratios),
            fg_iou_thresh=rpn_fg_iou_thresh,
            bg_iou_thresh=rpn_bg_iou_thresh,
            batch_size_per_image=rpn_batch_size_per_image,
            positive_fraction=rpn_positive_fraction,
            pre_nms_top_n=(rpn_pre_nms_top_n_train, rpn_pre_nms_top_n_test),
            post_nms_top_n=(rpn_post_nms_top_n_train, rpn_post_nms_top_n_test),
            nms_thresh=rpn_nms_thresh,
        )
        self.roi_heads = RoIHeads(
            channels,
            num_classes,
            representation_size=representation_size,
            canonical_size=canonical_size,
            fg_iou_thresh=box_fg_iou_thresh,
            batch_size_per_image=box_batch_size_per_image,
            positive_fraction=box_positive_fraction,
            score_thresh=box_score_thresh,
            nms_thresh=box_nms_thresh,
            detections_per_img=detections_per_img,
        )

    def losses(
        self, features: Sequence[Tensor], targets: Sequence[Target], canvas: Size, extents: Sequence[Size]
    ) -> dict[str, Tensor]:
        """Return `loss_classifier`, `loss_box_reg`, `loss_objectness` and `loss_rpn_box_reg`."""
        proposals, of_proposals = self.rpn(features, canvas, extents, targets)
        return {**self.roi_heads.losses(self._cut_from(features), proposals, targets, canvas), **of_proposals}

    def detect(self, features: Sequence[Tensor], canvas: Size, extents: Sequence[Size]) -> list[Detections]:
        """Return what is found in each image."""
        proposals, _ = self.rpn(features, canvas, extents)
        return self.roi_heads.detect(self._cut_from(features), proposals, canvas, extents)

    def answer(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return logits and offsets of each map's anchors, and of as many regions as are looked at in evaluation."""
        logits, offsets = self.rpn.head(features)
        count = len(features[0]) * self.rpn.post_nms_top_n[1]
        return (*logits, *offsets, *self.roi_heads.answer(features[0].new_empty(count, *self.roi_heads.region_shape)))

    def _cut_from(self, features: Sequence[Tensor]) -> Sequence[Tensor]:
        return features[: self.backbone.body_levels]


PREDICTORS = ("roi_heads.box_predictor.*",)
PAPER = Paper(
    title="Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks",
    authors="Shaoqing Ren, Kaiming He, Ross Girshick, Jian Sun",
    year=2015,
    url="https://arxiv.org/abs/1506.01497",
)

register_detector(
    DetectorInfo(
        "faster_rcnn",
        FasterRCNN,
        PAPER,
        backbone={"extra_levels": "pool"},
        reference=TorchvisionFasterRCNN,
        predictors=PREDICTORS,
    ),
    DetectorInfo(
        "fasterrcnn_resnet50_fpn",
        FasterRCNN,
        PAPER,
        backbone={"extra_levels": "pool"},
        predictors=PREDICTORS,
        reference=TorchvisionFasterRCNN,
        published=Published(
            url="https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
            backbone="resnet50",
            num_classes=90,
        ),
    ),
)
