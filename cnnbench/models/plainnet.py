"""Plain networks: Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, 2015, https://arxiv.org/abs/1512.03385.

The one idea: take the shortcuts out of a ResNet and see what they were for. The plain network of 34 layers
trains to a higher error than that of 18 layers, although it could represent the same function; with the
shortcuts it is the other way round (section 4.1, table 2).

The last norm of each block starts at one: a plain block that starts at zero passes nothing on.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from cnnbench.models import references
from cnnbench.models.registry import register
from cnnbench.models.resnet import PAPER, BasicBlock, ResNet


class PlainBlock(BasicBlock):
    """Two 3x3 convolutions, and nothing is added to them."""

    @staticmethod
    def shortcut(in_channels: int, width: int, stride: int) -> nn.Module:
        """Return nothing that has weights; the shortcut is not used."""
        return nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return F(x), (B, width, H/stride, W/stride)."""
        x = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(x)))


class PlainNet(ResNet):
    """A `ResNet` of plain blocks.

    Args:
        layers: Blocks in each of the four stages.
        channels: Width of each stage.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none).
        drop_rate: Dropout in front of the classifier.
    """

    def __init__(
        self,
        layers: Sequence[int],
        channels: Sequence[int] = (64, 128, 256, 512),
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(
            PlainBlock,
            layers,
            channels,
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=global_pool,
            drop_rate=drop_rate,
            zero_init_last=False,
        )


CFG = {"pool_size": (7, 7), "first_conv": "conv1", "classifier": "fc"}

register(PlainNet, PAPER, {"plainnet18": {"layers": (2, 2, 2, 2)}}, reference=references.plainnet18, pretrained_cfg=CFG)
register(PlainNet, PAPER, {"plainnet34": {"layers": (3, 4, 6, 3)}}, reference=references.plainnet34, pretrained_cfg=CFG)
