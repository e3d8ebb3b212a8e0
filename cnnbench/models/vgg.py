"""VGG: Karen Simonyan, Andrew Zisserman, 2014, https://arxiv.org/abs/1409.1556.

The one idea: small filters, many layers. Two 3x3 convolutions see as far as one of 5x5, three as far as one of
7x7, with fewer weights and more rectifications between; so a network of nothing but 3x3 convolutions and 2x2
max pools can be made deeper, and deeper is better.

As in the reference, dropout is off unless asked for (the paper: 0.5), and the fully connected layers are laid
out as convolutions, so that they slide over maps of more than 7x7 positions, and the answers are pooled; smaller
maps are stretched to 7x7. On maps of just 7x7 positions they are computed as the matrix products that they are.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.layers import HeadNetwork, PooledHead, PooledStage
from cnnbench.models.registry import Paper, register

MAP_SIZE = 7  # positions of the last map in each direction, at 224 pixels


@torch.fx.wrap  # one node of a traced graph: tracing does not know the size of x, on which the way depends
def fully_connected(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve x (B, C, H, W) without padding; where it has the size of the kernels, by a matrix product."""
    if x.shape[2:] != weight.shape[2:]:
        return F.conv2d(x, weight, bias)
    if not weight.is_contiguous():  # channels_last: in this order both are flattened without a copy
        x, weight = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
    return F.linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]


@torch.fx.wrap
def stretched(x: Tensor, size: int) -> Tensor:
    """Bring a map that is smaller than `size` in a direction to that size, by adaptive pooling."""
    height, width = max(x.shape[2], size), max(x.shape[3], size)
    return x if (height, width) == (x.shape[2], x.shape[3]) else F.adaptive_avg_pool2d(x, (height, width))


class FullyConnected(nn.Conv2d):
    """A fully connected layer over a map, which slides over a larger one as a convolution does."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to one position for every place of the kernel."""
        return fully_connected(x, self.weight, self.bias)


class ConvMlp(nn.Module):
    """The two hidden fully connected layers."""

    def __init__(self, in_channels: int, hidden_size: int, out_features: int, drop_rate: float) -> None:
        super().__init__()
        self.fc1 = FullyConnected(in_channels, hidden_size, MAP_SIZE)
        self.act1 = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(drop_rate)
        self.fc2 = FullyConnected(hidden_size, out_features, 1)
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_features, 1, 1), or to more positions where there are more than 7x7."""
        x = stretched(x, self.fc1.kernel_size[0])
        x = self.drop(self.act1(self.fc1(x)))
        return self.act2(self.fc2(x))


class VGG(HeadNetwork):
    """Five stages of 3x3 convolutions, each ended by a 2x2 max pool, then three fully connected layers (table 1).

    Args:
        depths: Convolutions in each stage.
        widths: Channels of each stage.
        batch_norm: Whether BatchNorm stands between convolution and ReLU; the paper has none.
        mlp_ratio: Width of the first fully connected layer, relative to the 4096 of the second.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none), over what the fully connected layers give.
        drop_rate: Dropout behind the first and in front of the last fully connected layer.
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        batch_norm: bool = False,
        mlp_ratio: float = 1.0,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.feature_info = []
        layers: list[nn.Module] = []
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            for _ in range(depth):
                layers += [nn.Conv2d(in_chans, width, 3, padding=1)]
                layers += [nn.BatchNorm2d(width)] if batch_norm else []
                layers += [nn.ReLU(inplace=True)]
                in_chans = width
            self._note_feature(width, 2**stage, len(layers) - 1)
            layers += [nn.MaxPool2d(2)]
        self._note_feature(in_chans, 2 ** len(depths), len(layers) - 1)
        self.features = PooledStage(*layers)

        self.num_features = in_chans
        self.pre_logits = ConvMlp(in_chans, int(4096 * mlp_ratio), 4096, drop_rate)
        self.add_head(PooledHead(4096, num_classes, global_pool, drop_rate), num_classes)
        self._init_weights()

    def _note_feature(self, num_chs: int, reduction: int, layer: int) -> None:
        self.feature_info.append({"num_chs": num_chs, "reduction": reduction, "module": f"features.{layer}"})

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map of images (B, in_chans, H, W): (B, 512, H/32, W/32)."""
        return self.features(x)

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules of `forward_features` in order."""
        return list(self.features)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of a feature map, or with `pre_logits` what the classifier would see."""
        return self.head(self.pre_logits(x), pre_logits)


PAPER = Paper(
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
    authors="Karen Simonyan, Andrew Zisserman",
    year=2014,
    url="https://arxiv.org/abs/1409.1556",
)

DEPTHS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}

register(
    VGG,
    PAPER,
    {name: {"depths": depths} for name, depths in DEPTHS.items()}
    | {f"{name}_bn": {"depths": depths, "batch_norm": True} for name, depths in DEPTHS.items()},
    feature_cfg={"out_indices": (0, 1, 2, 3, 4, 5), "flatten_sequential": True},
    top1={
        "vgg11": 69.050,
        "vgg11_bn": 70.374,
        "vgg13": 69.950,
        "vgg13_bn": 71.560,
        "vgg16": 71.594,
        "vgg16_bn": 73.354,
        "vgg19": 72.400,
        "vgg19_bn": 74.230,
    },
)
