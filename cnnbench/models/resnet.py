"""ResNet: Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, 2015, https://arxiv.org/abs/1512.03385.

The one idea: layers learn the residual F(x) of a mapping and the input is added back, y = F(x) + x, so that a
block that has nothing to add need only learn zero, and a hundred layers train as easily as ten.

Two things follow today's practice and the reference, not the paper: the bottleneck strides in its 3x3
convolution (the paper: in the first 1x1), and the last norm of each block starts at zero, so that a block
starts as the identity. Two later papers need one argument each: `resnext.py` groups, `seresnet.py` gates.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from cnnbench.layers import DropPath, PooledNetwork, SqueezeExcite, Stage, make_divisible
from cnnbench.models.registry import Paper, register


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the shortcut: the identity where shapes agree, else a 1x1 convolution (section 3.3, B)."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


def _gate(channels: int, se: bool) -> nn.Module:
    """Return squeeze-and-excitation to a sixteenth of the channels, in whole eights, or the identity."""
    return SqueezeExcite(channels, make_divisible(channels / 16, round_limit=0)) if se else nn.Identity()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (figure 5, left)."""

    expansion = 1
    last_norm = "bn2"
    shortcut = staticmethod(projection)

    def __init__(
        self, in_channels: int, width: int, stride: int, drop_path: float, se: bool, cardinality: int, base_width: int
    ) -> None:
        super().__init__()
        if cardinality != 1 or base_width != 64:
            raise ValueError("cardinality and base_width are for bottlenecks: a basic block has no inner width")
        downsample = self.shortcut(in_channels, width, stride)  # the first to draw its weights, as in the reference
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.se = _gate(width, se)
        self.act2 = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return F(x) + x."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.drop_path(self.se(self.bn2(self.conv2(y))))
        y += self.downsample(x)  # last, as in the reference: gradients of x are then added in one order
        return self.act2(y)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 that narrow and widen the channels by four (figure 5, right)."""

    expansion = 4
    last_norm = "bn3"

    def __init__(
        self, in_channels: int, width: int, stride: int, drop_path: float, se: bool, cardinality: int, base_width: int
    ) -> None:
        super().__init__()
        inner, out_channels = width * base_width // 64 * cardinality, width * self.expansion
        downsample = projection(in_channels, out_channels, stride)  # the first to draw, as above
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.se = _gate(out_channels, se)
        self.act3 = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return F(x) + x."""
        y = self.act1(self.bn1(self.conv1(x)))  # (B, C/4, H, W)
        y = self.act2(self.bn2(self.conv2(y)))  # (B, C/4, H/stride, W/stride)
        y = self.drop_path(self.se(self.bn3(self.conv3(y))))  # (B, C, H/stride, W/stride)
        y += self.downsample(x)  # last, as above
        return self.act3(y)


class ResNet(PooledNetwork):
    """A 7x7 convolution and a max pool, then four stages of residual blocks, each at half the resolution.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        layers: Blocks in each of the four stages.
        channels: Width of each stage; a bottleneck's output is four times wider.
        cardinality: Groups of a bottleneck's 3x3 convolution.
        base_width: Its channels a group where the stage is 64 wide.
        se: Weigh the channels of what a block adds by squeeze-and-excitation.
        small_images: Start with a 3x3 convolution at full resolution, without max pool, for images of 32 pixels.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none).
        drop_rate: Dropout in front of the classifier.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 at the first.
        zero_init_last: Start the last norm of each block at zero.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        channels: Sequence[int] = (64, 128, 256, 512),
        cardinality: int = 1,
        base_width: int = 64,
        se: bool = False,
        small_images: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        zero_init_last: bool = True,
    ) -> None:
        super().__init__()
        kernel_size, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = nn.Conv2d(in_chans, 64, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, stride=2, padding=1)
        self.feature_info = [{"num_chs": 64, "reduction": stride, "module": "act1"}]

        rates = iter([drop_path_rate * index / max(sum(layers) - 1, 1) for index in range(sum(layers))])
        in_channels, reduction = 64, stride * stride
        for stage, (depth, width) in enumerate(zip(layers, channels, strict=True), start=1):
            blocks = []
            for i in range(depth):
                stride = 2 if i == 0 and stage > 1 else 1
                blocks.append(block(in_channels, width, stride, next(rates), se, cardinality, base_width))
                in_channels = width * block.expansion
                reduction *= stride
            self.add_module(f"layer{stage}", Stage(*blocks))
            self.feature_info.append({"num_chs": in_channels, "reduction": reduction, "module": f"layer{stage}"})

        self.add_head(num_classes, global_pool, drop_rate)
        self._init_weights(zero_init_last)

    def _init_weights(self, zero_init_last: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock | Bottleneck) and zero_init_last:
                nn.init.zeros_(module.get_submodule(module.last_norm).weight)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map of images (B, in_chans, H, W)."""
        x = self.act1(self.bn1(self.conv1(x)))  # (B, 64, H/2, W/2)
        x = self.maxpool(x)  # (B, 64, H/4, W/4)
        x = self.layer1(x)  # (B, C, H/4, W/4)
        x = self.layer2(x)  # (B, 2C, H/8, W/8)
        x = self.layer3(x)  # (B, 4C, H/16, W/16)
        return self.layer4(x)  # (B, 8C, H/32, W/32)

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules of `forward_features` in order."""
        return [self.conv1, self.bn1, self.act1, self.maxpool, self.layer1, self.layer2, self.layer3, self.layer4]


PAPER = Paper(
    title="Deep Residual Learning for Image Recognition",
    authors="Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
    year=2015,
    url="https://arxiv.org/abs/1512.03385",
)

register(
    ResNet,
    PAPER,
    {
        "resnet18": {"block": BasicBlock, "layers": (2, 2, 2, 2)},
        "resnet34": {"block": BasicBlock, "layers": (3, 4, 6, 3)},
        "resnet50": {"block": Bottleneck, "layers": (3, 4, 6, 3)},
        "resnet101": {"block": Bottleneck, "layers": (3, 4, 23, 3)},
        "resnet152": {"block": Bottleneck, "layers": (3, 8, 36, 3)},
    },
    top1={"resnet18": 73.164, "resnet34": 77.930, "resnet50": 81.240, "resnet101": 82.796, "resnet152": 83.494},
)
