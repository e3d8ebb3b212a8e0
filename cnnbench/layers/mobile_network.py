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

    Args:
        rows: The stages.
        act_layer: The activation of the whole network, called with `inplace`.
        squeeze_excite: Whether the blocks weigh their channels.
        linear_bottleneck: Whether blocks end without activation and add their input where shapes agree.
        channel_multiplier: Factor of all widths, which are then rounded by `make_divisible`.
        depth_multiplier: Factor of the stages' repeats, which are then rounded up.
        num_features: Outputs of the last 1x1 convolution; 0 leaves it out.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none).
        drop_rate: Dropout in front of the classifier.
        drop_path_rate: Stochastic depth; it rises linearly over the blocks from 0 at the first, and would reach
            this rate one block after the last.
    """

    classifier_name = "classifier"

    def __init__(
        self,
        rows: Sequence[Row],
        act_layer: Activation,
        squeeze_excite: bool = False,
        linear_bottleneck: bool = True,
        channel_multiplier: float = 1.0,
        depth_multiplier: float = 1.0,
        num_features: int = 1280,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        in_channels = make_divisible(32 * channel_multiplier)
        self.conv_stem = nn.Conv2d(in_chans, in_channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = act_layer(inplace=True)

        self.feature_info = []
        stages, reduction, index = [], 2, 0
        depths = [math.ceil(row.repeats * depth_multiplier) for row in rows]
        for i, (row, depth) in enumerate(zip(rows, depths, strict=True)):
            blocks = []
            out_channels = make_divisible(row.channels * channel_multiplier)
            for stride in (row.stride, *[1] * (depth - 1)):
                sizes = (row.kernel_size, stride, act_layer, squeeze_excite)
                drop_path = drop_path_rate * index / sum(depths)
                if row.expansion == 1:
                    block = DepthwiseSeparable(in_channels, out_channels, *sizes, linear_bottleneck, drop_path)
                else:
                    block = InvertedResidual(in_channels, out_channels, row.expansion, *sizes, drop_path)
                blocks.append(block)
                in_channels, index = out_channels, index + 1
            stages.append(Stage(*blocks))
            reduction *= row.stride
            if i + 1 == len(rows) or rows[i + 1].stride == 2:
                info = {"num_chs": in_channels, "reduction": reduction, "module": f"blocks.{i}", "stage": i + 1}
                self.feature_info.append(info)
        self.blocks = nn.Sequential(*stages)

        self.conv_head = nn.Conv2d(in_channels, num_features, 1, bias=False) if num_features else nn.Identity()
        self.bn2 = nn.BatchNorm2d(num_features) if num_features else nn.Identity()
        self.act2 = act_layer(inplace=True) if num_features else nn.Identity()
        self.add_head(num_classes, global_pool, drop_rate, num_features or in_channels)
        self._init_weights()

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
