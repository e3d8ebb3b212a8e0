"""Figures of architectures as papers and tutorials state them, rounded as they do, to be held against measured ones."""

from dataclasses import dataclass

TOLERANCE = 0.02  # relative; what rounding to two digits rarely exceeds


@dataclass(frozen=True)
class Published:
    """What is stated of a model.

    Attributes:
        year: In which it was published.
        top1: ImageNet-1k accuracy in percent of the authors' weights; None: it has none.
        parameters: Trained numbers.
        macs: Multiply-adds of one image, which many call FLOPs; None: not stated.
    """

    year: int
    top1: float | None
    parameters: float
    macs: float | None


PUBLISHED = {
    "lenet5": Published(1998, None, 60e3, None),
    "alexnet": Published(2012, 56.5, 61e6, 724e6),
    "vgg16": Published(2014, 71.6, 138e6, 15.5e9),
    "googlenet": Published(2014, 68.7, 6.8e6, 1.5e9),
    "resnet50": Published(2015, 75.3, 25e6, 4.1e9),
    "densenet121": Published(2017, 74.4, 8e6, 2.9e9),
    "mobilenetv2_100": Published(2018, 71.8, 3.4e6, 300e6),
    "efficientnet_b0": Published(2019, 77.1, 5.3e6, 390e6),
    "convnext_tiny": Published(2022, 82.1, 28e6, 4.5e9),
    "vit_base_patch16_224": Published(2020, 81.8, 86e6, 17.6e9),
}


def differs(published: float | None, measured: float | None) -> bool:
    """Tell whether a published figure differs from the measured one by over 2 %; False where either is unknown."""
    if published is None or measured is None:
        return False
    return abs(published - measured) > TOLERANCE * measured
