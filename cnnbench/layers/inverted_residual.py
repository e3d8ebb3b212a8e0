"""The blocks of the networks for phones: depthwise convolutions mix positions, 1x1 convolutions mix channels.

Depthwise separable: Howard et al., 2017, https://arxiv.org/abs/1704.04861. Inverted residual: Sandler et al., 2018,
https://arxiv.org/abs/1801.04381; with squeeze-and-excitation: Tan & Le, 2019, https://arxiv.org/abs/1905.11946.
"""

from collections.abc import Callable

from torch import Tensor, nn

from cnnbench.layers.drop import DropPath
from cnnbench.layers.squeeze_excite import MobileSqueezeExcite

Activation = Callable[..., nn.Module]


class DepthwiseSeparable(nn.Module):
    """A depthwise convolution, then a 1x1 that changes the number of channels.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the depthwise convolution.
        stride: Stride of the depthwise convolution.
        act_layer: Activation, called with `inplace`.
        squeeze_excite: Weigh the channels in front of the 1x1.
        linear: End without activation and add the input where shapes agree: an inverted residual that does not
            expand. Otherwise MobileNetV1's block: activated at the end, nothing added.
        drop_path: Stochastic depth.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        act_layer: Activation,
        squeeze_excite: bool = False,
        linear: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.has_skip = linear and stride == 1 and in_channels == out_channels
        self.conv_dw = _depthwise(in_channels, kernel_size, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = act_layer(inplace=True)
        self.se = MobileSqueezeExcite(in_channels, in_channels // 4, act_layer) if squeeze_excite else nn.Identity()
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = nn.Identity() if linear else act_layer(inplace=True)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H/stride, W/stride)."""
        shortcut = x
        x = self.act1(self.bn1(self.conv_dw(x)))  # (B, in_channels, H/stride, W/stride)
        x = self.act2(self.bn2(self.conv_pw(self.se(x))))
        if self.has_skip:
            x = self.drop_path(x)
            x += shortcut
        return x


class InvertedResidual(nn.Module):
    """Widen the channels by a 1x1, convolve depthwise, narrow them by a linear 1x1; add the input where shapes agree.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        expansion: How many times wider the depthwise convolution is than the input.
        kernel_size: Side of the depthwise convolution.
        stride: Stride of the depthwise convolution.
        act_layer: Activation, called with `inplace`.
        squeeze_excite: Weigh the wide channels by a gate that is a quarter of the input's channels wide.
        drop_path: Stochastic depth.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: int,
        kernel_size: int,
        stride: int,
        act_layer: Activation,
        squeeze_excite: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.has_skip = stride == 1 and in_channels == out_channels
        wide = in_channels * expansion
        self.conv_pw = nn.Conv2d(in_channels, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.act1 = act_layer(inplace=True)
        self.conv_dw = _depthwise(wide, kernel_size, stride)
        self.bn2 = nn.BatchNorm2d(wide)
        self.act2 = act_layer(inplace=True)
        self.se = MobileSqueezeExcite(wide, in_channels // 4, act_layer) if squeeze_excite else nn.Identity()
        self.conv_pwl = nn.Conv2d(wide, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H/stride, W/stride)."""
        shortcut = x
        x = self.act1(self.bn1(self.conv_pw(x)))  # (B, wide, H, W)
        x = self.act2(self.bn2(self.conv_dw(x)))  # (B, wide, H/stride, W/stride)
        x = self.bn3(self.conv_pwl(self.se(x)))  # (B, out_channels, H/stride, W/stride)
        if self.has_skip:
            x = self.drop_path(x)
            x += shortcut
        return x


def _depthwise(channels: int, kernel_size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size, stride, kernel_size // 2, groups=channels, bias=False)
