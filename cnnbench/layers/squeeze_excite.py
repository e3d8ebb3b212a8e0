"""Squeeze-and-excitation: Hu, Shen, Sun, 2017, https://arxiv.org/abs/1709.01507."""

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn


class SqueezeExcite(nn.Sequential):
    """Weigh each channel by a gate that sees the means of all channels: two 1x1 convolutions and a sigmoid.

    Args:
        channels: Channels of the feature map.
        reduced: Width between the two convolutions.
        act_layer: Activation between them; called with `inplace`.

    Attributes:
        names: Of the four layers, as in the reference.
    """

    names = ("fc1", "act", "fc2", "gate")

    def __init__(self, channels: int, reduced: int, act_layer: Callable[..., nn.Module] = nn.ReLU) -> None:
        squeeze, act = nn.Conv2d(channels, reduced, 1), act_layer(inplace=True)
        excite, gate = nn.Conv2d(reduced, channels, 1), nn.Sigmoid()
        super().__init__(OrderedDict(zip(self.names, (squeeze, act, excite, gate), strict=True)))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W), its channels weighed."""
        weights = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        for layer in self:
            weights = layer(weights)
        return x * weights


class MobileSqueezeExcite(SqueezeExcite):
    """`SqueezeExcite` with the names that its layers have in the networks for phones."""

    names = ("conv_reduce", "act1", "conv_expand", "gate")
