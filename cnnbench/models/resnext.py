"""ResNeXt: Saining Xie, Ross Girshick, Piotr Dollár, Zhuowen Tu, Kaiming He, 2016, https://arxiv.org/abs/1611.05431.

The one idea: besides depth and width a network has a third size, the number of parallel paths in a block
(cardinality), and more of them buy more accuracy than deeper or wider blocks of the same cost. The paths of a
block have one shape, so that together they are a bottleneck whose 3x3 convolution is grouped (figure 3, c).

The names tell the block of the first stage: 32x4d has 32 groups of 4 channels. The code is that of `resnet.py`.
"""

from cnnbench.models.registry import Paper, register
from cnnbench.models.resnet import Bottleneck, ResNet

PAPER = Paper(
    title="Aggregated Residual Transformations for Deep Neural Networks",
    authors="Saining Xie, Ross Girshick, Piotr Dollár, Zhuowen Tu, Kaiming He",
    year=2016,
    url="https://arxiv.org/abs/1611.05431",
)

register(
    ResNet,
    PAPER,
    {
        "resnext50_32x4d": {"block": Bottleneck, "layers": (3, 4, 6, 3), "cardinality": 32, "base_width": 4},
        "resnext101_32x4d": {"block": Bottleneck, "layers": (3, 4, 23, 3), "cardinality": 32, "base_width": 4},
        "resnext101_32x8d": {"block": Bottleneck, "layers": (3, 4, 23, 3), "cardinality": 32, "base_width": 8},
    },
    top1={"resnext50_32x4d": 82.016, "resnext101_32x4d": 80.936, "resnext101_32x8d": 79.308},
)
