"""The frame that MobileNets and EfficientNets share."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cnnbench.layers.inverted_residual import Activation, DepthwiseSeparable, InvertedResidual
from cnnbench.layers.pooled_network import PooledNetwork
from cnnbench.layers.rounding import make_divisible
from cnnbench.layers.squeeze_excite import MobileSqueezeExcite
from cnnbench.layers.stage import Stage


class Row(NamedTuple):
    """A stage, as the papers' tables list them; the first of its blocks has the stride.

    Attributes:
        expansion: How many times an inverted residual widens its input; 1: a depthwise separable convolution.
        channels: Width, before it is multiplied.
        repeats: Blocks, before they are multiplied.
        stride: 1 or 2.
        kernel_size: Side of the depthwise convolutions.
    """

    expansion: int
    channels: int
    repeats: int
    stride: int
    kernel_size: int = 3


class MobileNetwork(PooledNetwork):
    """A 3x3 convolution of stride 2, stages of blocks, and at will a 1x1 convolution in front of the head.

    A subclass says which: by `rows`, `act_layer` and the other attributes, and by `last_width`.

    Args:
        channel_multiplier: Factor of all widths, which are then rounded by `make_divisible`.
        depth_multiplier: Factor of the stages' repeats, which are then rounded up.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none).
        drop_rate: Dropout in front of the classifier.
        drop_path_rate: Stochastic depth; it rises linearly over the blocks from 0 at the first, and would reach
            this rate one block after the last.

    Attributes:
        rows: The stages.
        act_layer: The activation of the whole network, called with `inplace`.
        squeeze_excite: Whether the blocks weigh their channels.
        linear_bottleneck: Whether blocks end without activation and add their input where shapes agree.
    """

    rows: Sequence[Row]
    act_layer: Activation
    squeeze_excite = False
    linear_bottleneck = True
    classifier_name = "classifier"

    def __init__(
        self,
        channel_multiplier: float = 1.0,
        depth_multiplier: float = 1.0,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        width = self._add_stem(in_chans, make_divisible(32 * channel_multiplier))
        width = self._add_stages(width, channel_multiplier, depth_multiplier, drop_path_rate)
        width = self._add_last_convolution(width, self.last_width(channel_multiplier))
        self.add_head(num_classes, global_pool, drop_rate, width)
        self._init_weights()

    @staticmethod
    def last_width(channel_multiplier: float) -> int:
        """Return the channels of the 1x1 convolution behind the stages; 0 leaves it out."""
        return make_divisible(1280 * channel_multiplier)

    def _add_stem(self, in_chans: int, width: int) -> int:
        self.conv_stem = nn.Conv2d(in_chans, width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = self.act_layer(inplace=True)
        return width

    def _add_stages(self, width: int, channel_multiplier: float, depth_multiplier: float, drop_path_rate: float) -> int:
        """Add `blocks` behind a map of `width` channels and note the maps; return the channels that go out."""
        depths = [math.ceil(row.repeats * depth_multiplier) for row in self.rows]
        rates = iter([drop_path_rate * index / sum(depths) for index in range(sum(depths))])
        self.blocks, self.feature_info, reduction = nn.Sequential(), [], 2
        for i, (row, depth) in enumerate(zip(self.rows, depths, strict=True)):
            out_width = make_divisible(row.channels * channel_multiplier)
            self.blocks.append(self._stage(row, width, out_width, [next(rates) for _ in range(depth)]))
            width, reduction = out_width, reduction * row.stride
            if i + 1 == len(self.rows) or self.rows[i + 1].stride == 2:
                info = {"num_chs": width, "reduction": reduction, "module": f"blocks.{i}", "stage": i + 1}
                self.feature_info.append(info)
        return width

    def _stage(self, row: Row, in_width: int, out_width: int, rates: Sequence[float]) -> Stage:
        """Return a block for each rate of stochastic depth; the first changes width and resolution."""
        blocks = []
        for i, rate in enumerate(rates):
            widths = (in_width if i == 0 else out_width, out_width)
            sizes = (row.kernel_size, row.stride if i == 0 else 1, self.act_layer, self.squeeze_excite)
            if row.expansion == 1:
                blocks.append(DepthwiseSeparable(*widths, *sizes, self.linear_bottleneck, rate))
            else:
                blocks.append(InvertedResidual(*widths, row.expansion, *sizes, rate))
        return Stage(*blocks)

    def _add_last_convolution(self, in_width: int, width: int) -> int:
        """Add the 1x1 convolution, of `width` channels, or identities in its place; return the channels that go out."""
        self.conv_head = nn.Conv2d(in_width, width, 1, bias=False) if width else nn.Identity()
        self.bn2 = nn.BatchNorm2d(width) if width else nn.Identity()
        self.act2 = self.act_layer(inplace=True) if width else nn.Identity()
        return width or in_width

    def _init_weights(self) -> None:
        """Draw weights as EfficientNet's authors do: by fan-out, a depthwise convolution's being one channel's."""
        MobileSqueezeExcite(8, 8, nn.ReLU)  # timm draws one to try it: under one seed ours must draw as much
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
            elif isinstance(module, nn.Linear):
                bound = 1.0 / math.sqrt(module.out_features)
                nn.init.uniform_(module.weight, -bound, bound)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map of images (B, in_chans, H, W)."""
        x = self.act1(self.bn1(self.conv_stem(x)))  # (B, C, H/2, W/2)
        x = self.blocks(x)  # (B, C, H/32, W/32)
        return self.act2(self.bn2(self.conv_head(x)))  # (B, num_features, H/32, W/32)

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules of `forward_features` in order."""
        return [self.conv_stem, self.bn1, self.act1, *self.blocks, self.conv_head, self.bn2, self.act2]

    @torch.jit.ignore
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """As in `Network`, but `norm` changes nothing: a convolution, not a norm alone, follows the last map."""
        return super().forward_intermediates(x, indices, False, stop_early, output_fmt, intermediates_only)

    def classify(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of the pooled features (B, head_hidden_size)."""
        return self.classifier(x)
