"""What papers state of a model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What is stated of a model, rounded as its authors do; None: it is not stated.

    Attributes:
        top1: ImageNet-1k accuracy in percent of the authors' weights.
        parameters: Trained numbers.
        macs: Multiply-adds of one image, which many call FLOPs.
    """

    top1: float | None = None
    parameters: float | None = None
    macs: float | None = None
