"""Losses of a network of several tasks, and how they are weighed against each other."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

from cnnbench.errors import UserError, did_you_mean
from cnnbench.layers.precision import at_least_float32

_SIDES, _OVERLAP = 5.0, 2.0  # of Carion et al. 2020


class BoxLoss(nn.Module):
    """Distance of the sides and generalised overlap (Carion et al. 2020, "DETR", arXiv:2005.12872, section 3.1)."""

    def forward(self, boxes: Tensor, target: Tensor) -> Tensor:
        """Return 5 times the sum of the distances of the four sides + 2 (1 - GIoU), the mean over the batch.

        Args:
            boxes: (B, 4), x1, y1, x2, y2 as parts of the image's width and height.
            target: The same, in any precision.
        """
        target = target.to(boxes.dtype)
        sides = F.l1_loss(boxes, target, reduction="none").sum(dim=1)
        return (_SIDES * sides + _OVERLAP * generalized_box_iou_loss(boxes, target)).mean()


class SupervisedContrastiveLoss(nn.Module):
    """What is of one class is to be nearer than all else in the batch (Khosla et al. 2020, arXiv:2004.11362, eq. 2).

    Args:
        temperature: Of the softmax over cosines.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the samples that have another of their class in the batch, 0 where none has.

        Args:
            embeddings: (B, D) of length 1.
            labels: int64 (B,).
        """
        same, itself = _pairs(labels)
        cosines = _cosines(embeddings) / self.temperature
        least = torch.finfo(cosines.dtype).min  # with -inf a batch of one has no gradient
        cosines = cosines.masked_fill(itself, least)
        nearness = cosines.log_softmax(dim=1).masked_fill(~same, 0)
        others = same.sum(dim=1)
        return -(nearness.sum(dim=1) / others.clamp(min=1)).sum() / (others > 0).sum().clamp(min=1)


class CosineLoss(nn.Module):
    """Pairs of one class are to have the cosine 1, pairs of two classes one below a margin (Hadsell et al. 2006).

    Args:
        margin: Cosine below which pairs of two classes cost nothing.
    """

    def __init__(self, margin: float = 0.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over pairs of one class + that over the others.

        Args:
            embeddings: (B, D) of length 1.
            labels: int64 (B,).
        """
        same, itself = _pairs(labels)
        cosines = _cosines(embeddings)
        other = ~(same | itself)
        return _mean(1 - cosines, same) + _mean((cosines - self.margin).clamp(min=0), other)


def _cosines(embeddings: Tensor) -> Tensor:
    """Return the cosine of every pair (B, B), float32 at least: in mixed precision a product is rounded otherwise."""
    with torch.autocast(embeddings.device.type, enabled=False):
        embeddings = at_least_float32(embeddings)
        return embeddings @ embeddings.T


def _pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which pairs (B, B) are two samples of one class, and which are one sample twice."""
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return (labels[:, None] == labels) & ~itself, itself


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


DEFAULT_EMBEDDING_LOSS = "supcon"
# Name -> loss of embeddings (B, D) of length 1 and labels (B,).
EMBEDDING_LOSSES: dict[str, Callable[[], nn.Module]] = {
    "supcon": SupervisedContrastiveLoss,
    "cosine": CosineLoss,
}
WEIGHTINGS = ("fixed", "uncertainty")
_HALVED = {"box"}  # a regression's likelihood: 1 / (2 sigma^2), where a softmax's has 1 / sigma^2


def effective_weights(weights: Mapping[str, float], log_variances: Tensor | None) -> dict[str, Tensor | float]:
    """Return what each loss counts for.

    With `log_variances`, s = log sigma^2 of each task, the factor is that of Kendall, Gal, Cipolla 2018,
    arXiv:1705.07115, section 3.2: exp(-s) of a classification, exp(-s) / 2 of a regression; times its given weight.

    Args:
        weights: Given, by the head's name.
        log_variances: (heads,), in the same order; None: the weights are fixed.
    """
    if log_variances is None:
        return dict(weights)
    learned = torch.exp(-log_variances).unbind()
    return {
        name: weight * factor * (0.5 if name in _HALVED else 1.0)
        for (name, weight), factor in zip(weights.items(), learned, strict=True)
    }


def weighted_sum(
    losses: Mapping[str, Tensor], weights: Mapping[str, Tensor | float], log_variances: Tensor | None
) -> Tensor:
    """Return the sum of losses, with the log sigma that keeps learned weights from vanishing.

    Args:
        losses: By the head's name.
        weights: Of `effective_weights`; those of losses that are not there count nothing.
        log_variances: (heads,), in the order of `weights`; None: the weights are fixed.
    """
    total = sum(weights[name] * loss for name, loss in losses.items())
    if log_variances is None:
        return total
    is_there = torch.tensor([name in losses for name in weights], device=log_variances.device)
    return total + (log_variances * is_there).sum() / 2


def check_embedding_loss(name: str, heads: Sequence[str]) -> None:
    """Refuse a loss of embeddings that does not exist, or that no head is for."""
    if name not in EMBEDDING_LOSSES:
        raise UserError(f"unknown embedding_loss {name!r}{did_you_mean(name, EMBEDDING_LOSSES)}")
    if name != DEFAULT_EMBEDDING_LOSS and "embedding" not in heads:
        raise UserError(f"embedding_loss is {name}, but there is no embedding head: the heads are {', '.join(heads)}")
