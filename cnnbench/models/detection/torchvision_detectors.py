"""torchvision's detectors behind the contract of ours: over the same feature maps, or theirs from end to end.

What torchvision's own transform does, resizing and normalising, is left out: the data module has done it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from cnnbench.models.detection.backbone import Backbone
from cnnbench.models.detection.detector import Detections, Size, Target, checked_targets, extents_of
from cnnbench.models.detection.fpn import ConvLevels, MaxPoolLevel

WIDTH = 256  # of torchvision's own pyramids
GROUPS = 32  # of GroupNorm
STAGES = 5  # of a ResNet, the stem among them
EXTRA_LEVELS = {
    type(None): lambda width: None,
    MaxPoolLevel: lambda width: LastLevelMaxPool(),
    ConvLevels: lambda width: LastLevelP6P7(width, width),
}
OWN_PYRAMIDS = {"pool": {}, "convs": {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7}}


class TorchvisionNeck(Backbone):
    """The feature maps of a classifier with torchvision's pyramid over them, under the names of ours.

    Args:
        ours: Its body is taken, and what it has as a pyramid is built by torchvision.
        detector: Whose heads are to stand on it.
        anchor_levels: Maps that there are anchors for.
    """

    def __init__(self, ours: Backbone, detector: str, anchor_levels: int) -> None:
        super().__init__(ours.body)
        if ours.fpn is not None:
            extra = EXTRA_LEVELS[type(ours.fpn.extra_blocks)](ours.fpn.out_channels)
            self.fpn = FeaturePyramidNetwork(ours.body.feature_info.channels(), ours.fpn.out_channels, extra)
        self.out_channels = ours.common_channels(detector, anchor_levels)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the maps (B, C, H_l, W_l) of images (B, C, H, W) by name, finest first."""
        maps = OrderedDict((str(level), x) for level, x in enumerate(self.maps(images)))
        return maps if self.fpn is None else self.fpn(maps)


class _PreciseRPN(RegionProposalNetwork):
    """torchvision's, whose labels are float32 always, so that its loss would be too where all else is float64."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        return [label.to(around) for label, around in zip(labels, anchors, strict=True)], boxes


class TorchvisionFasterRCNN(FasterRCNN):
    """torchvision's Faster R-CNN.

    Args:
        backbone: Ours, or torchvision's.
        num_classes: Classes of objects.
        anchor_sizes: As ours has them, and so the following.
        aspect_ratios: Of the anchors.
        representation_size: Width of the box head.
        canonical_size: Side of a region that is cut from the level of stride 16.
        box_fg_iou_thresh: A proposal of at least that IoU with an object is to find it.
        detections_per_img: At most.
        kwargs: Those that torchvision has by the same name.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        anchor_sizes: Sequence[Sequence[float]] = ((32,), (64,), (128,), (256,), (512,)),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        representation_size: int = 1024,
        canonical_size: int = 224,
        box_fg_iou_thresh: float = 0.5,
        detections_per_img: int = 100,
        **kwargs: Any,
    ) -> None:
        if isinstance(backbone, Backbone):
            backbone = TorchvisionNeck(backbone, "faster_rcnn", len(anchor_sizes))
        names = [str(level) for level in range(getattr(backbone, "body_levels", STAGES - 1))]
        super().__init__(
            backbone,
            rpn_anchor_generator=_anchors(anchor_sizes, aspect_ratios),
            box_roi_pool=MultiScaleRoIAlign(names, 7, 2, canonical_scale=canonical_size),
            box_head=TwoMLPHead(backbone.out_channels * 7**2, representation_size),
            box_predictor=FastRCNNPredictor(representation_size, num_classes + 1),
            box_fg_iou_thresh=box_fg_iou_thresh,
            box_bg_iou_thresh=box_fg_iou_thresh,
            box_detections_per_img=detections_per_img,
            **kwargs,
        )
        self.rpn.__class__ = _PreciseRPN  # built by torchvision, which offers no way to choose its class
        self.num_classes = num_classes

    def forward(
        self, images: Tensor, targets: Sequence[Target] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Detections] | tuple[Tensor, ...]:
        """Return losses or detections, see `Detector.forward`; a label of torchvision's is one more."""
        if images.is_meta:
            return self._answer(self.backbone(images))
        batch = ImageList(images, extents_of(images, sizes))
        wanted = None
        if self.training:
            checked = checked_targets(targets, images, self.num_classes)
            wanted = [{"boxes": target["boxes"], "labels": target["labels"] + 1} for target in checked]
        features = self.backbone(images)
        proposals, of_proposals = self.rpn(batch, features, wanted)
        canvas = tuple(images.shape[-2:])  # what the maps' scales are told by, where an image may be smaller
        self.roi_heads.box_roi_pool.scales = None  # else they would be those of the first batch for ever
        if self.training:
            _, losses = self.roi_heads(features, proposals, [canvas] * len(images), wanted)
            return {**losses, **of_proposals}
        return self._detected(features, proposals, canvas, batch.image_sizes)

    def _detected(
        self, features: dict[str, Tensor], proposals: list[Tensor], canvas: Size, extents: list[Size]
    ) -> list[Detections]:
        heads = self.roi_heads
        logits, offsets = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, proposals, [canvas])))
        found = heads.postprocess_detections(logits, offsets, proposals, extents)
        names = ("boxes", "scores", "labels")
        of_images = (dict(zip(names, of_image, strict=True)) for of_image in zip(*found, strict=True))
        return [{**of_image, "labels": of_image["labels"] - 1} for of_image in of_images]

    def _answer(self, features: dict[str, Tensor]) -> tuple[Tensor, ...]:
        logits, offsets = self.rpn.head(list(features.values()))
        first = features["0"]
        regions = first.new_empty(len(first) * self.rpn._post_nms_top_n["testing"], first.shape[1], 7, 7)
        return (*logits, *offsets, *self.roi_heads.box_predictor(self.roi_heads.box_head(regions)))


class TorchvisionRetinaNet(RetinaNet):
    """torchvision's RetinaNet.

    Args:
        backbone: Ours, or torchvision's.
        num_classes: Classes of objects.
        anchor_sizes: As ours has them.
        aspect_ratios: Of the anchors.
        group_norm: Let GroupNorm follow each convolution of the heads' towers.
        detections_per_img: At most.
        kwargs: Those that torchvision has by the same name.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        anchor_sizes: Sequence[Sequence[float]] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        group_norm: bool = False,
        detections_per_img: int = 100,
        **kwargs: Any,
    ) -> None:
        anchors = None if anchor_sizes is None else _anchors(anchor_sizes, aspect_ratios)
        if isinstance(backbone, Backbone):
            backbone = TorchvisionNeck(backbone, "retinanet", 5 if anchor_sizes is None else len(anchor_sizes))
        super().__init__(
            backbone, num_classes, anchor_generator=anchors, detections_per_img=detections_per_img, **kwargs
        )
        if group_norm:
            anchors_of_each = self.anchor_generator.num_anchors_per_location()[0]
            norm = partial(nn.GroupNorm, GROUPS)
            self.head = RetinaNetHead(backbone.out_channels, anchors_of_each, num_classes, norm_layer=norm)
        self.num_classes = num_classes

    def forward(
        self, images: Tensor, targets: Sequence[Target] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Detections] | tuple[Tensor, ...]:
        """Return losses or detections, see `Detector.forward`."""
        if images.is_meta:
            return tuple(self.head(list(self.backbone(images).values())).values())
        batch = ImageList(images, extents_of(images, sizes))
        wanted = checked_targets(targets, images, self.num_classes) if self.training else None
        features = list(self.backbone(images).values())
        outputs = self.head(features)
        anchors = self.anchor_generator(batch, features)
        if wanted is not None:
            losses = self.compute_loss(wanted, outputs, anchors)
            return {"loss_classes": losses["classification"], "loss_box": losses["bbox_regression"]}
        counts = [x.shape[-2] * x.shape[-1] * self.anchor_generator.num_anchors_per_location()[0] for x in features]
        by_map = {name: list(output.split(counts, dim=1)) for name, output in outputs.items()}
        return self.postprocess_detections(by_map, [list(of.split(counts)) for of in anchors], batch.image_sizes)


def torchvision_backbone(
    name: str,
    *,
    extra_levels: str,
    frozen_norm: bool = False,
    frozen_norm_eps: float | None = None,
    frozen_stages: int = 0,
) -> nn.Module:
    """Return torchvision's own classifier with its own pyramid; the arguments are those of `create_backbone`."""
    pyramid = dict(OWN_PYRAMIDS[extra_levels])
    if "extra_blocks" in pyramid:
        pyramid["extra_blocks"] = pyramid["extra_blocks"](WIDTH, WIDTH)
    eps = {} if frozen_norm_eps is None else {"eps": frozen_norm_eps}
    norm = partial(FrozenBatchNorm2d, **eps) if frozen_norm else nn.BatchNorm2d
    trained = STAGES - frozen_stages
    return resnet_fpn_backbone(backbone_name=name, weights=None, norm_layer=norm, trainable_layers=trained, **pyramid)


def _anchors(sizes: Sequence[Sequence[float]], aspect_ratios: Sequence[float]) -> AnchorGenerator:
    return AnchorGenerator(tuple(map(tuple, sizes)), (tuple(aspect_ratios),) * len(sizes))
