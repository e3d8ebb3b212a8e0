"""MobileNet: Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, et al., 2017, https://arxiv.org/abs/1704.04861.

The one idea: a convolution does two things, it mixes positions and it mixes channels. Done one after the other, a
depthwise 3x3 and then a 1x1, they cost eight to nine times less and lose about one percent of accuracy.

The reference follows the authors' code, where the activation is ReLU6 (the paper: ReLU). The paper's width
multiplier is `channel_multiplier`; here the widths are rounded to multiples of eight.
"""

from torch import nn

from cnnbench.layers import MobileNetwork, Row
from cnnbench.models.registry import Paper, register

ROWS = (  # table 1, without the stem
    Row(expansion=1, channels=64, repeats=1, stride=1),
    Row(expansion=1, channels=128, repeats=2, stride=2),
    Row(expansion=1, channels=256, repeats=2, stride=2),
    Row(expansion=1, channels=512, repeats=6, stride=2),
    Row(expansion=1, channels=1024, repeats=2, stride=2),
)


class MobileNetV1(MobileNetwork):
    """A 3x3 convolution and thirteen depthwise separable ones, each with BatchNorm and ReLU6 after both its parts.

    Args:
        channel_multiplier: Factor of all widths.
        depth_multiplier: Factor of the number of blocks in each stage.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none).
        drop_rate: Dropout in front of the classifier.
    """

    rows = ROWS
    act_layer = nn.ReLU6
    linear_bottleneck = False

    def __init__(
        self,
        channel_multiplier: float = 1.0,
        depth_multiplier: float = 1.0,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(channel_multiplier, depth_multiplier, num_classes, in_chans, global_pool, drop_rate)

    @staticmethod
    def last_width(channel_multiplier: float) -> int:
        """Return 0: no convolution follows the stages."""
        return 0


PAPER = Paper(
    title="MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    authors="Andrew G. Howard, Menglong Zhu, Bo Chen, Dmitry Kalenichenko, Weijun Wang, Tobias Weyand, "
    "Marco Andreetto, Hartwig Adam",
    year=2017,
    url="https://arxiv.org/abs/1704.04861",
)

register(
    MobileNetV1,
    PAPER,
    {"mobilenetv1_100": {"channel_multiplier": 1.0}},
    feature_cfg={"feature_cls": "hook", "no_rewrite": False},
    top1={"mobilenetv1_100": 76.088},
)
