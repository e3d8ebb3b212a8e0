"""Squeeze-and-excitation: Hu, Shen, Sun, 2017, https://arxiv.org/abs/1709.01507."""

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Weigh each channel by a gate that sees the means of all channels: two 1x1 convolutions and a sigmoid.

    Args:
        channels: Channels of the feature map.
        reduced: Width between the two convolutions.
    """

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, reduced, 1)
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(reduced, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W), its channels weighed."""
        weights = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        weights = self.fc2(self.act(self.fc1(weights)))
        return x * self.gate(weights)
