"""Region proposal network: Shaoqing Ren, Kaiming He, Ross Girshick, Jian Sun, 2015, https://arxiv.org/abs/1506.01497.

The one idea: the features that tell what an object is also tell where one might be, so that a small convolution on them
proposes regions at hardly any cost.

The names of the layers are those of torchvision, so that its weights load.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms

from cnnbench.layers.boxes import are_large, clip_boxes, decode_boxes, encode_boxes
from cnnbench.layers.precision import at_least_float32
from cnnbench.models.detection.anchors import AnchorGenerator
from cnnbench.models.detection.detector import Size, Target
from cnnbench.models.detection.matching import BACKGROUND, in_batch, match, sample

MIN_SIZE = 1e-3  # pixels of a proposal's width and height
BETA = 1 / 9  # below it the loss of an offset is quadratic


class RPNHead(nn.Module):
    """A 3x3 convolution, and two of 1x1: how much like an object each anchor is, and four offsets from it.

    Args:
        in_channels: Of every feature map.
        num_anchors: At each position.
    """

    def __init__(self, in_channels: int, num_anchors: int) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.conv = nn.Sequential(nn.Sequential(conv, nn.ReLU(inplace=True)))
        self.cls_logits = nn.Conv2d(in_channels, num_anchors, 1)
        self.bbox_pred = nn.Conv2d(in_channels, num_anchors * 4, 1)
        for layer in (conv, self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return for each map the logits (B, H W A) and the offsets (B, H W A, 4), float32 at least."""
        hidden = [self.conv(x) for x in features]
        logits = [by_anchor(self.cls_logits(x), 1).squeeze(-1) for x in hidden]
        return logits, [by_anchor(self.bbox_pred(x), 4) for x in hidden]


class RPN(nn.Module):
    """Proposals of regions.

    Args:
        in_channels: Of every feature map.
        anchors: Makes the anchors.
        fg_iou_thresh: An anchor of at least that IoU with an object is to find it.
        bg_iou_thresh: One below that with all is background.
        batch_size_per_image: Anchors of an image that are learned from.
        positive_fraction: Part of them that may be on objects.
        pre_nms_top_n: Proposals of each map before those that overlap are removed, in training and afterwards.
        post_nms_top_n: Of an image after that, in training and afterwards.
        nms_thresh: Of two proposals of a map whose IoU is above it the lower goes.
    """

    def __init__(
        self,
        in_channels: int,
        anchors: AnchorGenerator,
        *,
        fg_iou_thresh: float = 0.7,
        bg_iou_thresh: float = 0.3,
        batch_size_per_image: int = 256,
        positive_fraction: float = 0.5,
        pre_nms_top_n: tuple[int, int] = (2000, 1000),
        post_nms_top_n: tuple[int, int] = (2000, 1000),
        nms_thresh: float = 0.7,
    ) -> None:
        super().__init__()
        self.anchors = anchors
        self.head = RPNHead(in_channels, anchors.count)
        self.fg_iou_thresh, self.bg_iou_thresh = fg_iou_thresh, bg_iou_thresh
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction
        self.pre_nms_top_n, self.post_nms_top_n = pre_nms_top_n, post_nms_top_n
        self.nms_thresh = nms_thresh

    def forward(
        self, features: Sequence[Tensor], canvas: Size, extents: Sequence[Size], targets: Sequence[Target] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return for each image the proposals (P, 4), best first, and with targets the losses by name.

        Args:
            features: Maps (B, C, H, W), finest first.
            canvas: Height and width of the batch.
            extents: Height and width of each image on it.
            targets: For each image `boxes` (N, 4).
        """
        logits, offsets = self.head(features)
        anchors = self.anchors(features, canvas)
        proposals = self._proposals([x.detach() for x in logits], [x.detach() for x in offsets], anchors, extents)
        if targets is None:
            return proposals, {}
        return proposals, self._losses(torch.cat(logits, dim=1), torch.cat(offsets, dim=1), torch.cat(anchors), targets)

    def _proposals(
        self, logits: list[Tensor], offsets: list[Tensor], anchors: list[Tensor], extents: Sequence[Size]
    ) -> list[Tensor]:
        before, after = (n[0] if self.training else n[1] for n in (self.pre_nms_top_n, self.post_nms_top_n))
        boxes, scores, levels = [], [], []
        for level, (of_map, moved, around) in enumerate(zip(logits, offsets, anchors, strict=True)):
            top = of_map.topk(min(before, of_map.shape[1]), dim=1)
            chosen = moved.gather(1, top.indices[:, :, None].expand(-1, -1, 4))
            boxes.append(decode_boxes(chosen, around[top.indices]))  # (B, n, 4)
            scores.append(top.values.sigmoid())
            levels.append(torch.full_like(top.indices, level))
        together = torch.cat(boxes, dim=1), torch.cat(scores, dim=1), torch.cat(levels, dim=1)
        return [self._of_image(*parts, after) for parts in zip(*together, extents, strict=True)]

    def _of_image(self, boxes: Tensor, scores: Tensor, levels: Tensor, extent: Size, most: int) -> Tensor:
        boxes = clip_boxes(boxes, extent)
        keep = are_large(boxes, MIN_SIZE)
        boxes = boxes[keep]
        return boxes[batched_nms(boxes, scores[keep], levels[keep], self.nms_thresh)[:most]]

    def _losses(self, logits: Tensor, offsets: Tensor, anchors: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        positives, negatives, wanted = [], [], []
        for target in targets:
            matches = match(target["boxes"], anchors, self.bg_iou_thresh, self.fg_iou_thresh, every_box=True)
            labels = torch.where(matches == BACKGROUND, 0, torch.where(matches >= 0, 1, -1))
            positive, negative = sample(labels, self.batch_size_per_image, self.positive_fraction)
            positives.append(positive)
            negatives.append(negative)
            wanted.append(encode_boxes(target["boxes"][matches[positive]], anchors[positive]))
        positive, negative = in_batch(positives, len(anchors)), in_batch(negatives, len(anchors))
        sampled = torch.cat((positive, negative))
        truth = torch.cat((torch.ones_like(positive), torch.zeros_like(negative))).to(logits.dtype)
        count = max(len(sampled), 1)
        of_objects = F.binary_cross_entropy_with_logits(logits.flatten()[sampled], truth, reduction="sum")
        found = offsets.flatten(0, 1)[positive]
        of_boxes = F.smooth_l1_loss(found, torch.cat(wanted), beta=BETA, reduction="sum")
        return {"loss_objectness": of_objects / count, "loss_rpn_box_reg": of_boxes / count}


def by_anchor(x: Tensor, numbers: int) -> Tensor:
    """Return a head's map (B, A numbers, H, W) as (B, H W A, numbers), float32 at least."""
    x = x.unflatten(1, (-1, numbers)).permute(0, 3, 4, 1, 2).flatten(1, 3)
    return at_least_float32(x)
