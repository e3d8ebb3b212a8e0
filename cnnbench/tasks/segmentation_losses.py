"""Losses of segmentation by name; pixels of the label 255 count in none of them."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.data.segmentation.base import IGNORED
from cnnbench.errors import UserError, did_you_mean


class CrossEntropyLoss(nn.Module):
    """Cross entropy, averaged over pixels by the weights of their classes.

    Args:
        weights: Of the classes, (K,); None: equal.
    """

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the pixels that count, 0 where there are none.

        Args:
            logits: (B, K, H, W).
            target: int64 (B, H, W).
        """
        weights = _of_dtype(self.weights, logits)
        total = F.cross_entropy(logits, target, weights, ignore_index=IGNORED, reduction="sum")
        return total / _weight_of(target, weights).clamp(min=torch.finfo(total.dtype).tiny)


class FocalLoss(nn.Module):
    """Cross entropy that makes little of pixels that are classified well (Lin et al. 2017, arXiv:1708.02002).

    Args:
        weights: Of the classes, (K,); None: equal.
        gamma: How little, from 0: each pixel counts for (1 - p)^gamma, p being the probability of its class.
    """

    def __init__(self, weights: Tensor | None = None, gamma: float = 2.0) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the pixels that count, 0 where there are none; arguments as of `CrossEntropyLoss`."""
        weights = _of_dtype(self.weights, logits)
        losses = F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")  # 0 where ignored
        missing = -torch.expm1(-losses)  # of a probability of 1
        # of 0, the gradient of a power below 1 is infinite
        losses = losses * missing.clamp(min=torch.finfo(losses.dtype).tiny) ** self.gamma
        if weights is not None:
            losses = losses * weights[target.clamp(max=len(weights) - 1)]
        return losses.sum() / _weight_of(target, weights).clamp(min=torch.finfo(losses.dtype).tiny)


class DiceLoss(nn.Module):
    """1 - the overlap of probabilities and classes, averaged over the classes that the batch has.

    Milletari, Navab, Ahmadi 2016, "V-Net", arXiv:1606.04797, with sums in the denominator, over the whole batch.

    Args:
        smooth: Added to numerator and denominator, in pixels.
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, 0 where no pixel counts; arguments as of `CrossEntropyLoss`."""
        counts = (target != IGNORED)[:, None]  # (B, 1, H, W)
        probabilities = logits.softmax(dim=1) * counts
        classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
        there = target[:, None] == classes  # (B, K, H, W)
        overlap = (probabilities * there).sum((0, 2, 3))
        pixels = there.sum((0, 2, 3))
        dice = (2 * overlap + self.smooth) / (probabilities.sum((0, 2, 3)) + pixels + self.smooth)
        present = pixels > 0
        return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def coarser_masks(masks: Tensor, size: tuple[int, int], maps: Sequence[Tensor]) -> list[Tensor]:
    """Return masks for the logits of coarser maps: of the pixels that stand in the middle of the maps'.

    Args:
        masks: int64 (B, H, W).
        size: Height and width that the images were continued to, right and below; pixels there do not count.
        maps: (B, K, H', W') each, of the images so continued.
    """
    height, width = masks.shape[-2:]
    continued = F.pad(masks, (0, size[1] - width, 0, size[0] - height), value=IGNORED)[:, None].float()
    return [F.interpolate(continued, x.shape[-2:], mode="nearest-exact")[:, 0].long() for x in maps]


def _of_dtype(weights: Tensor | None, logits: Tensor) -> Tensor | None:
    """Return the weights of the classes in the logits' dtype: a Trainer's precision casts the buffer that has them."""
    return None if weights is None else weights.to(logits.dtype)


def _weight_of(target: Tensor, weights: Tensor | None) -> Tensor:
    """Return the sum of the weights of the pixels that count."""
    counts = target != IGNORED
    return counts.sum() if weights is None else (weights[target.clamp(max=len(weights) - 1)] * counts).sum()


# Name -> what makes the loss of (weights of the classes, gamma).
LOSSES: dict[str, Callable[[Tensor | None, float], nn.Module]] = {
    "cross_entropy": lambda weights, gamma: CrossEntropyLoss(weights),
    "dice": lambda weights, gamma: DiceLoss(),
    "focal": FocalLoss,
}
_UNWEIGHED = {"dice"}  # has no weights of classes


def check_losses(losses: Mapping[str, float], class_weights: Sequence[float] | None = None) -> None:
    """Refuse losses that do not exist, or that have no weight, and weights of classes that none of them takes.

    Args:
        losses: Weight of each, by its name in `LOSSES`.
        class_weights: One a class; None: equal.

    Raises:
        UserError: Naming it.
    """
    for name, weight in losses.items():
        if name not in LOSSES:
            raise UserError(f"unknown loss {name!r}{did_you_mean(name, LOSSES)}")
        if not weight > 0:
            raise UserError(f"losses.{name} is {weight}: its weight must be above 0")
    if not losses:
        raise UserError(f"losses is empty: it must have a weight for one of {', '.join(LOSSES)}")
    if class_weights is None:
        return
    if not (all(weight >= 0 for weight in class_weights) and any(class_weights)):
        raise UserError(f"class_weights are {class_weights}: none may be negative, and one must be above 0")
    if losses.keys() <= _UNWEIGHED:
        raise UserError(f"class_weights are not for {', '.join(losses)}: leave them out, --model.class_weights null")
