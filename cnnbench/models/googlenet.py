"""GoogLeNet: Szegedy, Liu, Jia, Sermanet, Reed, Anguelov and others, 2014, https://arxiv.org/abs/1409.4842.

The one idea: let each module look at several scales at once, by 1x1, 3x3 and 5x5 convolutions and a max pool side
by side, and pay for it by 1x1 convolutions that narrow the channels in front of the large filters.

Three things follow the reference, not the paper: BatchNorm behind every convolution, which makes local response
normalisation needless; 3x3 filters where the paper has 5x5; and auxiliary heads that pool adaptively, so that
images of other sizes do.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.layers import Branches, ConvNormAct, InceptionNetwork, linear
from cnnbench.models.registry import Paper, register

Conv = partial(ConvNormAct, eps=1e-3)


class Inception(Branches):
    """1x1; 1x1 and 3x3; 1x1 and another 3x3, the paper's 5x5; max pool and 1x1 (figure 2b).

    Args:
        in_channels: Channels that come in.
        c1: Channels of the first branch.
        c3: Inside and out of the second.
        c5: Inside and out of the third.
        pool: Out of the fourth.
    """

    def __init__(self, in_channels: int, c1: int, c3: tuple[int, int], c5: tuple[int, int], pool: int) -> None:
        super().__init__()
        self.branch1 = Conv(in_channels, c1, 1)
        self.branch2 = nn.Sequential(Conv(in_channels, c3[0], 1), Conv(*c3, 3, padding=1))
        self.branch3 = nn.Sequential(Conv(in_channels, c5[0], 1), Conv(*c5, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), Conv(in_channels, pool, 1))

    def _branches(self, x: Tensor) -> list[Tensor]:
        return [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]


class AuxiliaryHead(nn.Module):
    """A classifier on a map half way, which only learns (section 5)."""

    num_features = 1024

    def __init__(self, in_channels: int, num_classes: int, drop_rate: float) -> None:
        super().__init__()
        self.conv = Conv(in_channels, 128, 1)
        self.fc1 = nn.Linear(2048, self.num_features)
        self.fc2 = linear(self.num_features, num_classes)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, num_classes)."""
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)  # (B, 128 * 4 * 4)
        x = F.relu(self.fc1(x), inplace=True)
        return self.fc2(self.dropout(x))


class InputTransform(nn.Module):
    """From ImageNet's mean and standard deviation to a range of -1 to 1, in which the published weights learnt."""

    def forward(self, x: Tensor) -> Tensor:
        """Rescale x (B, 3, H, W)."""
        red = x[:, 0:1] * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
        green = x[:, 1:2] * (0.224 / 0.5) + (0.456 - 0.5) / 0.5
        blue = x[:, 2:3] * (0.225 / 0.5) + (0.406 - 0.5) / 0.5
        return torch.cat((red, green, blue), 1)


class GoogLeNet(InceptionNetwork):
    """A stem of three convolutions, then nine Inception modules at an eighth, 1/16 and 1/32 of the resolution.

    Args:
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none).
        drop_rate: Dropout in front of the classifier (the paper: 0.4).
        aux_logits: Whether there are auxiliary heads. While training, the network then returns a tuple, the logits
            and those of the second and of the first auxiliary head; the loss of these is to be weighed by the
            attribute `aux_weight`, 0.3.
        dropout_aux: Dropout in the auxiliary heads.
        transform_input: Whether images come normalised with ImageNet's mean and standard deviation, to be brought
            to a range of -1 to 1 here.
    """

    aux_weight = 0.3
    auxiliary_classifiers = ("aux1.fc2", "aux2.fc2")

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.2,
        aux_logits: bool = False,
        dropout_aux: float = 0.7,
        transform_input: bool = False,
    ) -> None:
        super().__init__()
        if transform_input and in_chans != 3:
            raise ValueError(f"transform_input is for 3 channels, not {in_chans}")
        self.transform_input = InputTransform() if transform_input else nn.Identity()
        self.conv1 = Conv(in_chans, 64, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = Conv(64, 64, 1)
        self.conv3 = Conv(64, 192, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(192, 64, (96, 128), (16, 32), 32)
        self.inception3b = Inception(256, 128, (128, 192), (32, 96), 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = Inception(480, 192, (96, 208), (16, 48), 64)
        self.inception4b = Inception(512, 160, (112, 224), (24, 64), 64)
        self.inception4c = Inception(512, 128, (128, 256), (24, 64), 64)
        self.inception4d = Inception(512, 112, (144, 288), (32, 64), 64)
        self.inception4e = Inception(528, 256, (160, 320), (32, 128), 128)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = Inception(832, 256, (160, 320), (32, 128), 128)
        self.inception5b = Inception(832, 384, (192, 384), (48, 128), 128)
        self.aux1 = AuxiliaryHead(512, num_classes, dropout_aux) if aux_logits else None
        self.aux2 = AuxiliaryHead(528, num_classes, dropout_aux) if aux_logits else None
        self.feature_info = [
            {"num_chs": 64, "reduction": 2, "module": "conv1"},
            {"num_chs": 192, "reduction": 4, "module": "conv3"},
            {"num_chs": 480, "reduction": 8, "module": "inception3b"},
            {"num_chs": 832, "reduction": 16, "module": "inception4e"},
            {"num_chs": 1024, "reduction": 32, "module": "inception5b"},
        ]
        self.add_head(num_classes, global_pool, drop_rate)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01)

    def _to_4a(self, x: Tensor) -> Tensor:
        x = self.maxpool1(self.conv1(self.transform_input(x)))  # (B, 64, H/4, W/4)
        x = self.maxpool2(self.conv3(self.conv2(x)))  # (B, 192, H/8, W/8)
        x = self.maxpool3(self.inception3b(self.inception3a(x)))  # (B, 480, H/16, W/16)
        return self.inception4a(x)  # (B, 512, H/16, W/16)

    def _to_4d(self, x: Tensor) -> Tensor:
        return self.inception4d(self.inception4c(self.inception4b(x)))  # (B, 528, H/16, W/16)

    def _to_5b(self, x: Tensor) -> Tensor:
        x = self.maxpool4(self.inception4e(x))  # (B, 832, H/32, W/32)
        return self.inception5b(self.inception5a(x))  # (B, 1024, H/32, W/32)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map of images (B, in_chans, H, W)."""
        return self._to_5b(self._to_4d(self._to_4a(x)))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Return the logits of images (B, in_chans, H, W); while training with auxiliary heads, also theirs."""
        if self.aux1 is None or self.aux2 is None or not self.training:
            return self.forward_head(self.forward_features(x))
        x = self._to_4a(x)
        first = self.aux1(x)
        x = self._to_4d(x)
        second = self.aux2(x)
        return self.forward_head(self._to_5b(x)), second, first


PAPER = Paper(
    title="Going Deeper with Convolutions",
    authors="Christian Szegedy, Wei Liu, Yangqing Jia, Pierre Sermanet, Scott Reed, Dragomir Anguelov, "
    "Dumitru Erhan, Vincent Vanhoucke, Andrew Rabinovich",
    year=2014,
    url="https://arxiv.org/abs/1409.4842",
)

register(
    GoogLeNet,
    PAPER,
    {"googlenet": {}},
    reference="torchvision/{name}",
    pretrained_cfg={"first_conv": "conv1.conv", "classifier": "fc", "pool_size": (7, 7)},
    top1={"googlenet": 69.778},
)
