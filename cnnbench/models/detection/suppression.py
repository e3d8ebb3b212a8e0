"""What is kept of many scored boxes: the best of those that overlap, and the best of all."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from cnnbench.models.detection.detector import Detections


def suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, most: int) -> Detections:
    """Return the detections of an image after non-maximum suppression, each class by itself.

    Args:
        boxes: (N, 4).
        scores: (N,).
        labels: (N,).
        threshold: Of two boxes of a class whose IoU is above it the lower goes.
        most: How many stay at most.
    """
    keep = batched_nms(boxes, scores, labels, threshold)[:most]
    return {"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]}


def best(scores: Tensor, threshold: float, most: int) -> Tensor:
    """Return the indices of scores (N,) above a threshold, `most` of the highest at most, the highest first."""
    above = torch.where(scores > threshold)[0]
    return above[scores[above].topk(min(most, len(above))).indices]
