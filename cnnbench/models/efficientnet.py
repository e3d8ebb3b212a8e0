"""EfficientNet: Mingxing Tan, Quoc V. Le, 2019, https://arxiv.org/abs/1905.11946.

The one idea: depth, width and resolution are scaled together, by one coefficient. Beginning with a small network that
was found by search, B0, that gives a family of networks that are each more accurate than others of their cost.

The blocks are MobileNetV2's with squeeze-and-excitation and SiLU. `compound_scaling` is the paper's rule; the networks
that its authors published, B1 to B7, follow it in steps that they chose: `SIZES`. As in the reference, dropout and
drop path are off unless asked for (the paper trains with the dropout of `SIZES` and with drop path 0.2), BatchNorm
has eps 1e-5 (the authors' code: 1e-3) and convolutions are padded alike on all sides. The reference's weights of B2
to B5 are made for images of 256, 288, 320 and 448 pixels, not for those of `SIZES`.
"""

from typing import NamedTuple

from torch import nn

from cnnbench.layers import MobileNetwork, Row
from cnnbench.models.registry import Paper, register

ROWS = (  # table 1, without the stem and the last convolution
    Row(expansion=1, channels=16, repeats=1, stride=1, kernel_size=3),
    Row(expansion=6, channels=24, repeats=2, stride=2, kernel_size=3),
    Row(expansion=6, channels=40, repeats=2, stride=2, kernel_size=5),
    Row(expansion=6, channels=80, repeats=3, stride=2, kernel_size=3),
    Row(expansion=6, channels=112, repeats=3, stride=1, kernel_size=5),
    Row(expansion=6, channels=192, repeats=4, stride=2, kernel_size=5),
    Row(expansion=6, channels=320, repeats=1, stride=1, kernel_size=3),
)


class Scaling(NamedTuple):
    """The size of an EfficientNet.

    Attributes:
        depth: Factor of the number of blocks in each stage, rounded up: `depth_multiplier`.
        width: Factor of the channels, rounded by `make_divisible`: `channel_multiplier`.
        resolution: Side of the images in pixels.
        dropout: Rate of dropout to train with: `drop_rate`.
    """

    depth: float
    width: float
    resolution: int
    dropout: float


SIZES = {
    "efficientnet_b0": Scaling(1.0, 1.0, 224, 0.2),
    "efficientnet_b1": Scaling(1.1, 1.0, 240, 0.2),
    "efficientnet_b2": Scaling(1.2, 1.1, 260, 0.3),
    "efficientnet_b3": Scaling(1.4, 1.2, 300, 0.3),
    "efficientnet_b4": Scaling(1.8, 1.4, 380, 0.4),
    "efficientnet_b5": Scaling(2.2, 1.6, 456, 0.4),
    "efficientnet_b6": Scaling(2.6, 1.8, 528, 0.5),
    "efficientnet_b7": Scaling(3.1, 2.0, 600, 0.5),
}


def compound_scaling(phi: float) -> Scaling:
    """Scale B0 to 2^phi times its cost (equation 3; dropout as in section 5.2).

    Depth grows by 1.2^phi, width by 1.1^phi and resolution by 1.15^phi. An operation costs depth x width^2 x
    resolution^2, and 1.2 x 1.1^2 x 1.15^2 is about 2. Dropout rises linearly from 0.2, to 0.5 at 64 times the cost.

    Args:
        phi: How often the cost is doubled; 0 is B0.
    """
    return Scaling(
        depth=1.2**phi,
        width=1.1**phi,
        resolution=round(224 * 1.15**phi),
        dropout=min(0.2 + 0.05 * phi, 0.5),
    )


class EfficientNet(MobileNetwork):
    """A 3x3 convolution, seven stages of inverted residuals with squeeze-and-excitation, a 1x1 convolution; SiLU.

    Its arguments are those of `MobileNetwork`.
    """

    rows = ROWS
    act_layer = nn.SiLU
    squeeze_excite = True


PAPER = Paper(
    title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    authors="Mingxing Tan, Quoc V. Le",
    year=2019,
    url="https://arxiv.org/abs/1905.11946",
)

register(
    EfficientNet,
    PAPER,
    {name: {"channel_multiplier": size.width, "depth_multiplier": size.depth} for name, size in SIZES.items()},
    feature_cfg={"feature_cls": "hook", "no_rewrite": False},
    top1={
        "efficientnet_b0": 77.698,
        "efficientnet_b1": 81.444,
        "efficientnet_b2": 80.612,
        "efficientnet_b3": 82.296,
        "efficientnet_b4": 83.468,
        "efficientnet_b5": 85.894,
    },
)
