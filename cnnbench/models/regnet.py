"""RegNet: Radosavovic, Kosaraju, Girshick, He, Dollár, 2020, https://arxiv.org/abs/2003.13678.

The one idea: design a space of networks instead of one network. Where populations of random networks were narrowed
down to the good ones, widths and depths turned out to follow one quantised line, so that five numbers and a depth
say all there is to say about a network: `stage_table` is that rule.

RegNetX is made of residual bottlenecks with group convolutions that do not narrow (bottleneck ratio 1); RegNetY adds
squeeze-and-excitation. As in the reference, the last norm of each block starts at zero, so that a block starts as
the identity.
"""

import math
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cnnbench.layers import ConvNormAct, DropPath, HeadNetwork, PooledHead, SqueezeExcite, Stage
from cnnbench.models.registry import Paper, register


class StageSize(NamedTuple):
    """A row of `stage_table`: channels, blocks, and channels in a group of the 3x3 convolutions."""

    width: int
    depth: int
    group_width: int


def stage_table(w0: int, wa: float, wm: float, depth: int, group_width: int) -> list[StageSize]:
    """Return the stages that the quantised line gives (section 3.3, equations 2 to 4).

    Block j would be u_j = w0 + wa * j wide. It takes the nearest width w0 * wm^s with a whole s instead, rounded to a
    multiple of 8; blocks of one width are a stage. A stage's width is then rounded to a multiple of its group width,
    and a group is never wider than the stage.

    Args:
        w0: Width of the first block, a multiple of 8.
        wa: Slope of the line.
        wm: Ratio of the widths of successive stages, above 1.
        depth: Blocks in all.
        group_width: Channels in a group.
    """
    steps = [round(math.log(1 + wa * j / w0, wm)) for j in range(depth)]
    depths = Counter(8 * round(w0 * wm**step / 8) for step in steps)
    groups = [min(group_width, width) for width in depths]
    return [
        StageSize(group * round(width / group), blocks, group)
        for (width, blocks), group in zip(depths.items(), groups, strict=True)
    ]


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 group and a 1x1 convolution, all of one width, with a shortcut around them (figure 4).

    Args:
        in_channels: Channels that come in.
        width: Channels inside and out.
        stride: Of the 3x3 convolution.
        group_width: Channels in a group of it.
        se_ratio: Width of the squeeze, as a part of `in_channels`; 0 leaves squeeze-and-excitation out.
        drop_path: Stochastic depth.
    """

    def __init__(
        self, in_channels: int, width: int, stride: int, group_width: int, se_ratio: float, drop_path: float
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, width, 1)
        self.conv2 = ConvNormAct(width, width, 3, stride, padding=1, groups=width // group_width)
        self.se = SqueezeExcite(width, round(in_channels * se_ratio)) if se_ratio else nn.Identity()
        self.conv3 = ConvNormAct(width, width, 1, act=False)
        self.act3 = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != width:
            self.downsample = ConvNormAct(in_channels, width, 1, stride, act=False)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, width, H/stride, W/stride)."""
        y = self.conv1(x)  # (B, width, H, W)
        y = self.conv2(y)  # (B, width, H/stride, W/stride)
        y = self.se(y)
        y = self.drop_path(self.conv3(y))
        y += self.downsample(x)  # last, as in the reference: gradients of x are then added in one order
        return self.act3(y)


class RegNet(HeadNetwork):
    """A 3x3 convolution, then four stages of bottlenecks; stem and stages each halve the resolution.

    Args:
        w0: Width of the first block.
        wa: Slope of the widths.
        wm: Ratio of the widths of successive stages.
        depth: Blocks in all.
        group_size: Channels in a group of the 3x3 convolutions.
        se_ratio: Width of the squeeze, as a part of a block's input; 0 leaves squeeze-and-excitation out.
        stem_width: Channels of the stem.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none).
        drop_rate: Dropout in front of the classifier.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 at the first.
        zero_init_last: Start the last norm of each block at zero.

    Raises:
        ValueError: If the rule gives another number of stages than four.
    """

    def __init__(
        self,
        w0: int,
        wa: float,
        wm: float,
        depth: int,
        group_size: int,
        se_ratio: float = 0.0,
        stem_width: int = 32,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        zero_init_last: bool = True,
    ) -> None:
        super().__init__()
        table = stage_table(w0, wa, wm, depth, group_size)
        if len(table) != 4:
            given = f"w0={w0}, wa={wa}, wm={wm}, depth={depth}"
            raise ValueError(f"a RegNet has four stages, but {given} give {len(table)}")
        self.stem = ConvNormAct(in_chans, stem_width, 3, stride=2, padding=1)
        self.feature_info = [{"num_chs": stem_width, "reduction": 2, "module": "stem"}]

        rates = iter(torch.linspace(0, drop_path_rate, depth, device="cpu").tolist())
        in_channels = stem_width
        for i, (width, blocks, group_width) in enumerate(table, start=1):
            stage = Stage()
            for j in range(blocks):
                stride = 2 if j == 0 else 1
                block = Bottleneck(in_channels, width, stride, group_width, se_ratio, next(rates))
                stage.add_module(f"b{j + 1}", block)
                in_channels = width
            self.add_module(f"s{i}", stage)
            self.feature_info.append({"num_chs": width, "reduction": 2 ** (i + 1), "module": f"s{i}"})

        self.num_features = in_channels
        self.add_head(PooledHead(in_channels, num_classes, global_pool, drop_rate), num_classes)
        self._init_weights(zero_init_last)

    def _init_weights(self, zero_init_last: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * math.prod(module.kernel_size) // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
            elif isinstance(module, Bottleneck) and zero_init_last:
                nn.init.zeros_(module.conv3.bn.weight)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map of images (B, in_chans, H, W)."""
        x = self.stem(x)  # (B, stem_width, H/2, W/2)
        x = self.s1(x)  # (B, C1, H/4, W/4)
        x = self.s2(x)  # (B, C2, H/8, W/8)
        x = self.s3(x)  # (B, C3, H/16, W/16)
        return self.s4(x)  # (B, C4, H/32, W/32)

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules of `forward_features` in order."""
        return [self.stem, self.s1, self.s2, self.s3, self.s4]


PAPER = Paper(
    title="Designing Network Design Spaces",
    authors="Ilija Radosavovic, Raj Prateek Kosaraju, Ross Girshick, Kaiming He, Piotr Dollár",
    year=2020,
    url="https://arxiv.org/abs/2003.13678",
)

ARGUMENTS = ("w0", "wa", "wm", "depth", "group_size", "se_ratio")
VARIANTS = {  # the arguments, and the top-1 of the published weights
    "regnetx_002": (24, 36.44, 2.49, 13, 8, 0.0, 68.758),
    "regnetx_004": (24, 24.48, 2.54, 22, 16, 0.0, 72.482),
    "regnetx_008": (56, 35.73, 2.28, 16, 16, 0.0, 77.294),
    "regnetx_016": (80, 34.01, 2.25, 18, 24, 0.0, 79.440),
    "regnetx_032": (88, 26.31, 2.25, 25, 48, 0.0, 80.916),
    "regnety_002": (24, 36.44, 2.49, 13, 8, 0.25, 70.288),
    "regnety_004": (48, 27.89, 2.09, 16, 8, 0.25, 75.594),
    "regnety_008": (56, 38.84, 2.4, 14, 16, 0.25, 76.334),
    "regnety_016": (48, 20.71, 2.65, 27, 24, 0.25, 80.668),
    "regnety_032": (80, 42.63, 2.66, 21, 24, 0.25, 82.724),
}

register(
    RegNet,
    PAPER,
    {name: dict(zip(ARGUMENTS, row[:-1], strict=True)) for name, row in VARIANTS.items()},
    top1={name: row[-1] for name, row in VARIANTS.items()},
)
