"""Losses of classification by name, all with label smoothing."""

from collections.abc import Callable

import torch.nn.functional as F
from timm.loss import AsymmetricLossSingleLabel, BinaryCrossEntropy
from torch import Tensor, nn

from cnnbench.errors import UserError, did_you_mean

Loss = Callable[[Tensor, Tensor], Tensor]


class SmoothedBinaryCrossEntropy(nn.Module):
    """Each class answered for itself, by timm's `BinaryCrossEntropy` (Wightman et al. 2021, arXiv:2110.00476).

    Args:
        smoothing: Share of the target spread evenly over all classes, of mixed targets too.
        target_threshold: Targets above become 1, others 0; None: left as they are.
    """

    def __init__(self, smoothing: float, target_threshold: float | None) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.loss = BinaryCrossEntropy(smoothing=0.0, target_threshold=target_threshold)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over batch and classes.

        Args:
            logits: (B, num_classes).
            targets: Labels int64 (B,), or a distribution each (B, num_classes).
        """
        classes = logits.shape[1]
        dense = targets if targets.ndim == 2 else F.one_hot(targets, classes)
        return self.loss(logits, dense.to(logits.dtype) * (1 - self.smoothing) + self.smoothing / classes)


# Name -> what makes the loss of (label smoothing, threshold of targets).
LOSSES: dict[str, Callable[[float, float | None], Loss]] = {
    "cross_entropy": lambda smoothing, threshold: nn.CrossEntropyLoss(label_smoothing=smoothing),
    "bce": SmoothedBinaryCrossEntropy,
    "asymmetric": lambda smoothing, threshold: AsymmetricLossSingleLabel(eps=smoothing),
}
MIXES = ("cross_entropy", "bce")  # take a distribution for a label, as mixup and CutMix make them


def create_loss(name: str, smoothing: float, threshold: float | None, mixed: bool) -> Loss:
    """Return a loss of logits (B, num_classes) and labels (B,) or, where it can, distributions (B, num_classes).

    Args:
        name: One of `LOSSES`.
        smoothing: Share of the target spread evenly over all classes.
        threshold: Of `bce` alone.
        mixed: Whether it is to take distributions.

    Raises:
        UserError: It does not exist, or cannot take what it is given.
    """
    if name not in LOSSES:
        raise UserError(f"unknown loss {name!r}{did_you_mean(name, LOSSES)}")
    if threshold is not None and name != "bce":
        raise UserError(f"bce_target_threshold is {threshold}, but the loss is {name!r}: it is for 'bce'")
    if mixed and name not in MIXES:
        raise UserError(f"loss {name!r} cannot take the mixed targets of mixup and cutmix; {' and '.join(MIXES)} can")
    return LOSSES[name](smoothing, threshold)
