"""Feature pyramid network: Tsung-Yi Lin, Piotr Dollár, Ross Girshick and others, 2017, https://arxiv.org/abs/1612.03144.

The one idea: what the deepest map of a classifier knows is handed down, map by map, to the finer ones, so that every
resolution has features of the same width and of the same strength, for large objects and for small ones.

The names of the layers are those of torchvision, so that its weights load.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class MaxPoolLevel(nn.Module):
    """One coarser level: every second position of the coarsest (section 4.2's P6)."""

    count = 1

    def forward(self, coarsest: Tensor) -> list[Tensor]:
        """Return the further levels."""
        return [F.max_pool2d(coarsest, kernel_size=1, stride=2)]


class ConvLevels(nn.Module):
    """Two coarser levels by strided convolutions, P6 and P7 of RetinaNet, made of P5.

    Args:
        channels: Of every level.
    """

    count = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        for conv in (self.p6, self.p7):
            _init(conv)

    def forward(self, coarsest: Tensor) -> list[Tensor]:
        """Return the further levels."""
        p6 = self.p6(coarsest)
        return [p6, self.p7(F.relu(p6))]


class FPN(nn.Module):
    """1x1 convolutions that bring all maps to one width, the way down, and a 3x3 convolution for each level.

    Args:
        in_channels: Channels of the maps that come in, finest first.
        channels: Channels of every level that goes out.
        extra: What makes further, coarser levels of the coarsest; None: nothing does.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256, extra: nn.Module | None = None) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(width, channels, 1)) for width in in_channels)
        self.layer_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)) for _ in in_channels
        )
        for blocks in zip(self.inner_blocks, self.layer_blocks, strict=True):
            for (conv,) in blocks:
                _init(conv)
        self.extra_blocks = extra
        self.out_channels = channels

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels (B, channels, H_l, W_l) of maps (B, C_l, H_l, W_l), finest first."""
        x = self.inner_blocks[-1](maps[-1])
        levels = [self.layer_blocks[-1](x)]
        for i in range(len(maps) - 2, -1, -1):
            lateral = self.inner_blocks[i](maps[i])
            x = lateral + F.interpolate(x, size=lateral.shape[-2:], mode="nearest")
            levels.insert(0, self.layer_blocks[i](x))
        return levels if self.extra_blocks is None else levels + self.extra_blocks(levels[-1])


def _init(conv: nn.Conv2d) -> None:
    nn.init.kaiming_uniform_(conv.weight, a=1)
    nn.init.zeros_(conv.bias)
