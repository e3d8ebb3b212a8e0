"""Box heads on regions: Ross Girshick, 2015, https://arxiv.org/abs/1504.08083.

The one idea: the feature maps are computed once, and each proposed region is cut out of them at a fixed size, to be
classified and its box to be set right by a small network.

The cut is RoIAlign, which interpolates and does not round (He et al. 2017, https://arxiv.org/abs/1703.06870), and it is
taken from the level of the pyramid that suits the region's size (Lin et al. 2017, https://arxiv.org/abs/1612.03144,
equation 1). The names of the layers are those of torchvision, so that its weights load.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from cnnbench.layers.boxes import are_large, box_area, clip_boxes, decode_boxes, encode_boxes
from cnnbench.models.detection.detector import Detections, Size, Target
from cnnbench.models.detection.matching import match, sample
from cnnbench.models.detection.suppression import suppressed

MIN_SIZE = 1e-2  # pixels of a detection's width and height
BETA = 1 / 9  # below it the loss of an offset is quadratic


class BoxHead(nn.Module):
    """Two linear layers on a region's features.

    Args:
        in_features: Numbers of a region.
        width: Of both layers.
    """

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.fc6 = nn.Linear(in_features, width)
        self.fc7 = nn.Linear(width, width)

    def forward(self, regions: Tensor) -> Tensor:
        """Return (R, width) of regions (R, C, S, S)."""
        return F.relu(self.fc7(F.relu(self.fc6(regions.flatten(1)))))


class BoxPredictor(nn.Module):
    """Logits of the classes and of the background, which is the first, and four offsets for each.

    Args:
        in_features: Numbers of a region.
        num_classes: Classes of objects.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_features, num_classes + 1)
        self.bbox_pred = nn.Linear(in_features, (num_classes + 1) * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (R, K + 1) and offsets (R, K + 1, 4), float32 at least."""
        logits, offsets = self.cls_score(x), self.bbox_pred(x)
        dtype = torch.promote_types(x.dtype, torch.float32)
        return logits.to(dtype), offsets.unflatten(1, (-1, 4)).to(dtype)


class RoIHeads(nn.Module):
    """What is in proposed regions.

    Args:
        in_channels: Of every feature map.
        num_classes: Classes of objects.
        representation_size: Width of the box head.
        output_size: Side of a region's features.
        sampling_ratio: Points on either axis that each of them is the mean of.
        canonical_size: Side in pixels of a region that belongs to the map of stride 16.
        fg_iou_thresh: A proposal of at least that IoU with an object is to find it; others are background.
        batch_size_per_image: Proposals of an image that are learned from.
        positive_fraction: Part of them that may be on objects.
        bbox_reg_weights: Factors of the four offsets.
        score_thresh: Detections have scores above it.
        nms_thresh: Of two detections of a class whose IoU is above it the lower goes.
        detections_per_img: At most.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        representation_size: int = 1024,
        output_size: int = 7,
        sampling_ratio: int = 2,
        canonical_size: float = 224.0,
        fg_iou_thresh: float = 0.5,
        batch_size_per_image: int = 512,
        positive_fraction: float = 0.25,
        bbox_reg_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__()
        self.region_shape = (in_channels, output_size, output_size)
        self.box_head = BoxHead(in_channels * output_size**2, representation_size)
        self.box_predictor = BoxPredictor(representation_size, num_classes)
        self.output_size, self.sampling_ratio, self.canonical_size = output_size, sampling_ratio, canonical_size
        self.fg_iou_thresh = fg_iou_thresh
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction
        self.bbox_reg_weights = tuple(bbox_reg_weights)
        self.score_thresh, self.nms_thresh, self.detections_per_img = score_thresh, nms_thresh, detections_per_img

    def losses(
        self, features: Sequence[Tensor], proposals: Sequence[Tensor], targets: Sequence[Target], canvas: Size
    ) -> dict[str, Tensor]:
        """Return the losses by name.

        Args:
            features: Maps (B, C, H, W), finest first.
            proposals: For each image (P, 4).
            targets: For each image `boxes` (N, 4) and `labels` (N,).
            canvas: Height and width of the batch.
        """
        sampled = [self._sampled(*pair) for pair in zip(proposals, targets, strict=True)]
        regions, labels, wanted = zip(*sampled, strict=True)
        labels, wanted = torch.cat(labels), torch.cat(wanted)
        logits, offsets = self._predicted(features, regions, canvas)
        count = max(len(labels), 1)
        positive = torch.where(labels > 0)[0]
        found = offsets[positive, labels[positive]]
        of_boxes = F.smooth_l1_loss(found, wanted[positive], beta=BETA, reduction="sum")
        of_classes = F.cross_entropy(logits, labels, reduction="sum")
        return {"loss_classifier": of_classes / count, "loss_box_reg": of_boxes / count}

    def detect(
        self, features: Sequence[Tensor], proposals: Sequence[Tensor], canvas: Size, extents: Sequence[Size]
    ) -> list[Detections]:
        """Return what is found in each image.

        Args:
            features: Maps (B, C, H, W), finest first.
            proposals: For each image (P, 4).
            canvas: Height and width of the batch.
            extents: Height and width of each image on it.
        """
        logits, offsets = self._predicted(features, proposals, canvas)
        boxes = decode_boxes(offsets, torch.cat(list(proposals))[:, None], self.bbox_reg_weights)  # (R, K + 1, 4)
        counts = [len(of_image) for of_image in proposals]
        parts = zip(boxes.split(counts), logits.softmax(dim=-1).split(counts), extents, strict=True)
        return [self._of_image(*part) for part in parts]

    def answer(self, cut: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (R, K + 1) and offsets (R, K + 1, 4) of regions (R, C, S, S), cut out of the maps."""
        return self.box_predictor(self.box_head(cut))

    def _of_image(self, boxes: Tensor, scores: Tensor, extent: Size) -> Detections:
        region, label = torch.where(scores[:, 1:] > self.score_thresh)
        boxes = clip_boxes(boxes[region, label + 1], extent)
        keep = are_large(boxes, MIN_SIZE)
        region, label, boxes = region[keep], label[keep], boxes[keep]
        return suppressed(boxes, scores[region, label + 1], label, self.nms_thresh, self.detections_per_img)

    def _sampled(self, proposals: Tensor, target: Target) -> tuple[Tensor, Tensor, Tensor]:
        """Return the regions of an image that are learned from, their labels (0: background) and their offsets."""
        proposals = torch.cat((proposals, target["boxes"].to(proposals)))
        matches = match(target["boxes"].to(proposals), proposals, self.fg_iou_thresh, self.fg_iou_thresh)
        labels = torch.zeros_like(matches)
        on_object = matches >= 0
        labels[on_object] = target["labels"][matches[on_object]] + 1
        chosen = torch.cat(sample(labels, self.batch_size_per_image, self.positive_fraction)).sort().values
        regions, labels = proposals[chosen], labels[chosen]
        wanted = torch.zeros_like(regions)
        positive = labels > 0
        boxes = target["boxes"].to(proposals)[matches[chosen[positive]]]
        wanted[positive] = encode_boxes(boxes, regions[positive], self.bbox_reg_weights)
        return regions, labels, wanted

    def _predicted(self, features: Sequence[Tensor], regions: Sequence[Tensor], canvas: Size) -> tuple[Tensor, Tensor]:
        return self.answer(self._cut(features, regions, canvas))

    def _cut(self, features: Sequence[Tensor], regions: Sequence[Tensor], canvas: Size) -> Tensor:
        """Return (R, C, S, S): each region cut out of the level that suits its size."""
        owners = torch.cat([torch.full_like(boxes[:, :1], image) for image, boxes in enumerate(regions)])
        rois = torch.cat((owners, torch.cat(list(regions))), dim=1)
        exponents = [round(math.log2(x.shape[-2] / canvas[0])) for x in features]  # of the maps' scales
        size = box_area(rois[:, 1:]).sqrt()
        suited = torch.floor(4 + torch.log2(size / self.canonical_size) + 1e-6)
        levels = (suited.clamp(-exponents[0], -exponents[-1]) + exponents[0]).long()
        side, ratio = self.output_size, self.sampling_ratio
        cut = features[0].new_zeros(len(rois), features[0].shape[1], side, side)
        for level, (x, exponent) in enumerate(zip(features, exponents, strict=True)):
            chosen = torch.where(levels == level)[0]
            cut[chosen] = roi_align(x, rois[chosen].to(x.dtype), side, 2.0**exponent, ratio).to(cut.dtype)
        return cut
