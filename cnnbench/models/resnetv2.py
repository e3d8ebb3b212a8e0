"""ResNet v2: Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, 2016, https://arxiv.org/abs/1603.05027.

The one idea: nothing stands on the path of the shortcuts. Norm and activation move in front of the
convolutions (pre-activation), the sum is passed on as it is, and so a signal reaches every block from every
other, forward and backward, unchanged (figure 4, e).

As in the reference, the bottleneck strides in its 3x3 convolution, and the classifier is a 1x1 convolution.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnnbench.layers import DropPath, HeadNetwork, PooledHead, Stage, make_divisible
from cnnbench.models.registry import Paper, register


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)))


class PreActBasic(nn.Module):
    """Two 3x3 convolutions, each behind its norm and ReLU.

    A projecting shortcut starts behind the first ReLU, where the block's own path starts.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, drop_path: float, first: bool) -> None:
        super().__init__()
        project = first and (stride != 1 or in_channels != out_channels)
        self.downsample = _projection(in_channels, out_channels, stride) if project else None
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return F(x) + x."""
        activated = self.act1(self.norm1(x))
        shortcut = x if self.downsample is None else self.downsample(activated)
        x = self.conv1(activated)  # (B, C, H/stride, W/stride)
        x = self.conv2(self.act2(self.norm2(x)))
        return self.drop_path(x) + shortcut


class PreActBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, each behind its norm and ReLU; the 3x3 has a quarter of the channels.

    A shortcut projects in the first block of a stage, and starts behind the first ReLU there.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, drop_path: float, first: bool) -> None:
        super().__init__()
        inner = make_divisible(out_channels / 4)
        self.downsample = _projection(in_channels, out_channels, stride) if first else None
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(inner)
        self.act3 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return F(x) + x."""
        activated = self.act1(self.norm1(x))
        shortcut = x if self.downsample is None else self.downsample(activated)
        x = self.conv1(activated)  # (B, C/4, H, W)
        x = self.conv2(self.act2(self.norm2(x)))  # (B, C/4, H/stride, W/stride)
        x = self.conv3(self.act3(self.norm3(x)))  # (B, C, H/stride, W/stride)
        return self.drop_path(x) + shortcut


class ResNetV2(HeadNetwork):
    """A 7x7 convolution and a max pool, four stages of pre-activation blocks, and the norm that the last one lacks.

    Args:
        block: `PreActBasic` or `PreActBottleneck`.
        layers: Blocks in each of the four stages.
        channels: Width of each stage's output.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none).
        drop_rate: Dropout in front of the classifier.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 at the first.
    """

    def __init__(
        self,
        block: type[PreActBasic] | type[PreActBottleneck],
        layers: Sequence[int],
        channels: Sequence[int] = (256, 512, 1024, 2048),
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(in_chans, 64, 7, stride=2, padding=3, bias=False)
        self.stem = nn.Sequential(OrderedDict(conv=conv, pool=nn.MaxPool2d(3, stride=2, padding=1)))
        self.feature_info = [{"num_chs": 64, "reduction": 2, "module": "stem.conv"}]

        rates = iter(torch.linspace(0, drop_path_rate, sum(layers), device="cpu").tolist())
        stages, in_channels = [], 64
        for i, (depth, width) in enumerate(zip(layers, channels, strict=True)):
            blocks = []
            for j in range(depth):
                stride = 2 if j == 0 and i > 0 else 1
                blocks.append(block(in_channels, width, stride, next(rates), first=j == 0))
                in_channels = width
            stages.append(nn.Sequential(OrderedDict(blocks=Stage(*blocks))))
            self.feature_info.append({"num_chs": width, "reduction": 2 ** (i + 2), "module": f"stages.{i}"})
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(in_channels)
        self.act = nn.ReLU(inplace=True)

        self.num_features = in_channels
        self.add_head(PooledHead(in_channels, num_classes, global_pool, drop_rate, conv=True), num_classes)
        self._init_weights()

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.head.fc:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if self.num_classes:
            nn.init.normal_(self.head.fc.weight, std=0.01)
            nn.init.zeros_(self.head.fc.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map of images (B, in_chans, H, W), behind the last norm and ReLU."""
        x = self.stem(x)  # (B, 64, H/4, W/4)
        x = self.stages(x)  # (B, C, H/32, W/32)
        return self.act(self.norm(x))

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules of `forward_features` in order."""
        return [*self.stem, *self.stages, self.norm, self.act]


PAPER = Paper(
    title="Identity Mappings in Deep Residual Networks",
    authors="Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
    year=2016,
    url="https://arxiv.org/abs/1603.05027",
)

register(
    ResNetV2,
    PAPER,
    {
        "resnetv2_18": {"block": PreActBasic, "layers": (2, 2, 2, 2), "channels": (64, 128, 256, 512)},
        "resnetv2_34": {"block": PreActBasic, "layers": (3, 4, 6, 3), "channels": (64, 128, 256, 512)},
        "resnetv2_50": {"block": PreActBottleneck, "layers": (3, 4, 6, 3)},
        "resnetv2_101": {"block": PreActBottleneck, "layers": (3, 4, 23, 3)},
    },
    feature_cfg={"flatten_sequential": True},
    top1={"resnetv2_18": 75.364, "resnetv2_34": 79.070, "resnetv2_50": 81.406, "resnetv2_101": 83.002},
)
