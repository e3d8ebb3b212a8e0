"""MobileNetV2: Sandler, Howard, Zhu, Zhmoginov, Chen, 2018, https://arxiv.org/abs/1801.04381.

The one idea: the residual block turned inside out. Its ends, which are added, are narrow; between them the channels
are widened six times, where a depthwise convolution is cheap; and the narrow end has no activation, since a ReLU
destroys what there are few channels to hold.

As in the paper, a network thinner than 1.0 keeps the 1280 channels of the last convolution. The first block does not
widen its input and has no 1x1 convolution in front.
"""

from torch import nn

from cnnbench.layers import MobileNetwork, Row, make_divisible
from cnnbench.models.registry import Paper, register

ROWS = (  # table 2, without the stem and the last convolution
    Row(expansion=1, channels=16, repeats=1, stride=1),
    Row(expansion=6, channels=24, repeats=2, stride=2),
    Row(expansion=6, channels=32, repeats=3, stride=2),
    Row(expansion=6, channels=64, repeats=4, stride=2),
    Row(expansion=6, channels=96, repeats=3, stride=1),
    Row(expansion=6, channels=160, repeats=3, stride=2),
    Row(expansion=6, channels=320, repeats=1, stride=1),
)


class MobileNetV2(MobileNetwork):
    """A 3x3 convolution, seventeen inverted residuals and a 1x1 convolution, with ReLU6.

    Its arguments are those of `MobileNetwork`.
    """

    rows = ROWS
    act_layer = nn.ReLU6

    @staticmethod
    def last_width(channel_multiplier: float) -> int:
        """Return the channels of the last convolution, 1280 or more."""
        return max(1280, make_divisible(1280 * channel_multiplier))


PAPER = Paper(
    title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    authors="Mark Sandler, Andrew Howard, Menglong Zhu, Andrey Zhmoginov, Liang-Chieh Chen",
    year=2018,
    url="https://arxiv.org/abs/1801.04381",
)

register(
    MobileNetV2,
    PAPER,
    {
        "mobilenetv2_050": {"channel_multiplier": 0.5},
        "mobilenetv2_100": {"channel_multiplier": 1.0},
        "mobilenetv2_140": {"channel_multiplier": 1.4},
    },
    feature_cfg={"feature_cls": "hook", "no_rewrite": False},
    top1={"mobilenetv2_050": 65.928, "mobilenetv2_100": 72.910, "mobilenetv2_140": 76.528},
)
