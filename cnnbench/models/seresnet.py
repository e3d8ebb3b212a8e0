"""SE-ResNet: Jie Hu, Li Shen, Samuel Albanie, Gang Sun, Enhua Wu, 2017, https://arxiv.org/abs/1709.01507.

The one idea: let a block weigh its channels by what is in the whole image. Each channel is squeezed to its
mean, two small fully connected layers turn the means into a gate between 0 and 1 for each channel
(excitation), and the block's output is multiplied by it, in front of the addition (figure 3).

As in the reference, the width between the two layers, a sixteenth of the channels, is rounded to a multiple
of 8 (the paper: 4 of 64 channels; here 8). The code is that of `resnet.py`; any ResNet takes `se=True`.
"""

from cnnbench.models.registry import Paper, register
from cnnbench.models.resnet import BasicBlock, Bottleneck, ResNet

PAPER = Paper(
    title="Squeeze-and-Excitation Networks",
    authors="Jie Hu, Li Shen, Samuel Albanie, Gang Sun, Enhua Wu",
    year=2017,
    url="https://arxiv.org/abs/1709.01507",
)

register(
    ResNet,
    PAPER,
    {
        "seresnet18": {"block": BasicBlock, "layers": (2, 2, 2, 2), "se": True},
        "seresnet34": {"block": BasicBlock, "layers": (3, 4, 6, 3), "se": True},
        "seresnet50": {"block": Bottleneck, "layers": (3, 4, 6, 3), "se": True},
        "seresnet101": {"block": Bottleneck, "layers": (3, 4, 23, 3), "se": True},
        "seresnext50_32x4d": {
            "block": Bottleneck,
            "layers": (3, 4, 6, 3),
            "se": True,
            "cardinality": 32,
            "base_width": 4,
        },
    },
    top1={"seresnet50": 81.114, "seresnext50_32x4d": 82.186},
)
