"""Convolution, norm, activation: the unit of which the Inception networks and RegNets are made."""

from torch import Tensor, nn


class ConvNormAct(nn.Module):
    """A convolution without bias, BatchNorm and, if asked for, ReLU.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        kernel_size: Side of the kernel, or its height and width.
        stride: Of the convolution.
        padding: As `nn.Conv2d` takes it.
        groups: Of the convolution.
        eps: BatchNorm's.
        act: Whether a ReLU follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
        eps: float = 1e-5,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H', W')."""
        return self.act(self.bn(self.conv(x)))
