"""A ResNet for CIFAR: He, Zhang, Ren, Sun, 2015, https://arxiv.org/abs/1512.03385, section 4.2.

The one idea is that of `resnet.py`; images of 32x32 pixels want another stem: a 3x3 convolution at full
resolution and no max pool, and three stages instead of four.

As in many tutorials, the network is wider and shallower than the paper's: stages of 64, 128 and 256 channels
with two blocks each (the paper: 16, 32 and 64 with three and more), and its shortcuts project where shapes
change (the paper: pad with zeros).
"""

from collections.abc import Sequence

from cnnbench.layers import Stage
from cnnbench.models import references
from cnnbench.models.registry import register
from cnnbench.models.resnet import PAPER, BasicBlock, ResNet


class MiniResNet(ResNet):
    """Three stages of basic blocks behind a 3x3 convolution; the map of the last is a quarter of the image.

    Args:
        layers: Blocks in each of the three stages.
        channels: Width of each stage.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none).
        drop_rate: Dropout in front of the classifier.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 at the first.
    """

    def __init__(
        self,
        layers: Sequence[int] = (2, 2, 2),
        channels: Sequence[int] = (64, 128, 256),
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            BasicBlock,
            layers,
            channels,
            small_images=True,
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=global_pool,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        self.layer4 = Stage()  # no block: the identity


register(
    MiniResNet,
    PAPER,
    {"mini_resnet": {}},
    reference=references.mini_resnet,
    feature_cfg={"out_indices": (0, 1, 2, 3)},
    pretrained_cfg={
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "pool_size": (8, 8),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.4914, 0.4822, 0.4465),  # of CIFAR-10
        "std": (0.2470, 0.2435, 0.2616),
        "first_conv": "conv1",
        "classifier": "fc",
    },
)
