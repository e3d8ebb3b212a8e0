"""Inception v3: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, 2015, https://arxiv.org/abs/1512.00567.

The one idea: take convolutions apart. A 5x5 convolution becomes two of 3x3, one of nxn becomes 1xn and nx1, so
that each Inception module sees as much for less; and resolution falls where width rises, in branches, so that
no layer is a bottleneck.

Names and details follow the reference, which follows the authors' published network: the first modules keep a 5x5
branch. Without padding in the stem, images need at least 75 pixels, and 299 where the auxiliary head learns.
"""

from functools import partial

import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from cnnbench.layers import Branches, ConvNormAct, InceptionNetwork, linear
from cnnbench.models.registry import Paper, register

Conv = partial(ConvNormAct, eps=1e-3)


class InceptionA(Branches):
    """1x1; 5x5; two 3x3 in the place of a second 5x5; pooling (figure 5)."""

    def __init__(self, in_channels: int, pool_channels: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(in_channels, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Conv(in_channels, 48, 1), Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(in_channels, 64, 1), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.pool, self.branch_pool = nn.AvgPool2d(3, stride=1, padding=1), Conv(in_channels, pool_channels, 1)

    def _branches(self, x: Tensor) -> list[Tensor]:
        one, single = self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return [one, single, double, self.branch_pool(self.pool(x))]


class InceptionB(Branches):
    """To half the resolution: 3x3; two 3x3; pooling (figure 10)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(in_channels, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(in_channels, 64, 1), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2)

    def _branches(self, x: Tensor) -> list[Tensor]:
        return [self.branch3x3(x), self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))), self.pool(x)]


class InceptionC(Branches):
    """1x1; 7x7 as 1x7 and 7x1; two such 7x7; pooling (figure 6, n = 7); c7 channels inside the 7x7 branches."""

    def __init__(self, in_channels: int, c7: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(in_channels, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = Conv(in_channels, c7, 1), Conv(c7, c7, (1, 7), padding=(0, 3))
        self.branch7x7_3 = Conv(c7, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1, self.branch7x7dbl_2 = Conv(in_channels, c7, 1), Conv(c7, c7, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = Conv(c7, c7, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = Conv(c7, c7, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = Conv(c7, 192, (1, 7), padding=(0, 3))
        self.pool, self.branch_pool = nn.AvgPool2d(3, stride=1, padding=1), Conv(in_channels, 192, 1)

    def _branches(self, x: Tensor) -> list[Tensor]:
        one, single = self.branch1x1(x), self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return [one, single, double, self.branch_pool(self.pool(x))]


class InceptionD(Branches):
    """To half the resolution: 3x3; 7x7 and 3x3; pooling."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(in_channels, 192, 1), Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = Conv(in_channels, 192, 1), Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2)

    def _branches(self, x: Tensor) -> list[Tensor]:
        single = self.branch3x3_2(self.branch3x3_1(x))
        wider = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return [single, wider, self.pool(x)]


class InceptionE(Branches):
    """1x1; 3x3 as 1x3 beside 3x1; the same behind a 3x3; pooling (figure 7)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(in_channels, 320, 1)
        self.branch3x3_1 = Conv(in_channels, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(in_channels, 448, 1), Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.pool, self.branch_pool = nn.AvgPool2d(3, stride=1, padding=1), Conv(in_channels, 192, 1)

    def _branches(self, x: Tensor) -> list[Tensor]:
        one, single = self.branch1x1(x), self.branch3x3_1(x)
        wide, high = self.branch3x3_2a(single), self.branch3x3_2b(single)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        wider, higher = self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)
        return [one, wide, high, wider, higher, self.branch_pool(self.pool(x))]


class AuxiliaryHead(nn.Module):
    """A classifier on the last 17x17 map, which only learns (section 4)."""

    num_features = 768

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv0 = Conv(in_channels, 128, 1)
        self.conv1 = Conv(128, self.num_features, 5)
        self.fc = linear(self.num_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, 17, 17) to logits (B, num_classes)."""
        x = self.conv1(self.conv0(F.avg_pool2d(x, 5, stride=3)))  # (B, 768, 1, 1)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class InceptionV3(InceptionNetwork):
    """A stem of convolutions, then eleven Inception modules at an eighth, 1/16 and 1/32 of the resolution.

    Args:
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none).
        drop_rate: Dropout in front of the classifier.
        aux_logits: Whether there is an auxiliary head. While training, the network then returns a tuple, the logits
            and the auxiliary head's; the loss of those is to be weighed by the attribute `aux_weight`, 0.4.
    """

    aux_weight = 0.4
    auxiliary_classifiers = ("AuxLogits.fc",)

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        aux_logits: bool = False,
    ) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(in_chans, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Pool1 = nn.MaxPool2d(3, stride=2)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Pool2 = nn.MaxPool2d(3, stride=2)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = InceptionA(192, 32), InceptionA(256, 64), InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b, self.Mixed_6c = InceptionC(768, 128), InceptionC(768, 160)
        self.Mixed_6d, self.Mixed_6e = InceptionC(768, 160), InceptionC(768, 192)
        self.AuxLogits = AuxiliaryHead(768, num_classes) if aux_logits else None
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b, self.Mixed_7c = InceptionE(1280), InceptionE(2048)
        ends = {"Conv2d_2b_3x3": 64, "Conv2d_4a_3x3": 192, "Mixed_5d": 288, "Mixed_6e": 768, "Mixed_7c": 2048}
        self.feature_info = [
            {"num_chs": width, "reduction": 2**i, "module": name} for i, (name, width) in enumerate(ends.items(), 1)
        ]
        self.add_head(num_classes, global_pool, drop_rate)
        small = None if self.AuxLogits is None else self.AuxLogits.fc
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                trunc_normal_(module.weight, std=0.001 if module is small else 0.1)

    def depth_chain(self) -> list[nn.Module]:
        """Return the modules in front of the head, in turn; as in the reference, the stem is two layers."""
        layers = [module for name, module in self.named_children() if name.startswith(("Mixed", "AuxLogits"))]
        first = nn.ModuleList([self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3])
        return [first, nn.ModuleList([self.Conv2d_3b_1x1, self.Conv2d_4a_3x3]), *layers]

    def _to_17x17(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (B, 64, 147, 147) of 299 pixels
        x = self.Pool2(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.Pool1(x))))  # (B, 192, 35, 35)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # (B, 288, 35, 35)
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))  # (B, 768, 17, 17)
        return self.Mixed_6e(self.Mixed_6d(x))

    def _to_8x8(self, x: Tensor) -> Tensor:
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map of images (B, in_chans, H, W)."""
        return self._to_8x8(self._to_17x17(x))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the logits of images (B, in_chans, H, W); while training with an auxiliary head, also its own."""
        x = self._to_17x17(x)
        if self.AuxLogits is None or not self.training:
            return self.forward_head(self._to_8x8(x))
        auxiliary = self.AuxLogits(x)
        return self.forward_head(self._to_8x8(x)), auxiliary


PAPER = Paper(
    title="Rethinking the Inception Architecture for Computer Vision",
    authors="Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna",
    year=2015,
    url="https://arxiv.org/abs/1512.00567",
)

register(InceptionV3, PAPER, {"inception_v3": {}}, top1={"inception_v3": 77.472})
