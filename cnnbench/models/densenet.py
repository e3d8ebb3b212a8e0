"""DenseNet: Gao Huang, Zhuang Liu, Laurens van der Maaten, Kilian Q. Weinberger, 2016, https://arxiv.org/abs/1608.06993.

The one idea: within a block every layer sees the feature maps of all layers before it, concatenated and not
added, so that features are reused instead of learnt again, gradients reach every layer directly, and a layer
need only add a few channels (the growth rate) to what all share.

This is DenseNet-BC: a 1x1 bottleneck of four times the growth rate before each 3x3 convolution, and transitions
that halve the channels. `memory_efficient` computes each concatenation and its bottleneck again in the backward
pass, after Pleiss et al., 2017, https://arxiv.org/abs/1707.06990: a block then keeps what grows linearly with
its depth, not quadratically.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cnnbench.layers import BatchNormReLU2d, PooledNetwork, Stage
from cnnbench.models.registry import Paper, register


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1 convolution; norm, ReLU, 3x3 convolution (section 3, bottleneck layers).

    Args:
        in_channels: Channels of everything before it.
        growth_rate: Channels it adds.
        bn_size: Width of the bottleneck, in growth rates.
        drop_rate: Dropout on what it adds.
    """

    def __init__(self, in_channels: int, growth_rate: int, bn_size: int, drop_rate: float) -> None:
        super().__init__()
        width = bn_size * growth_rate
        self.norm1 = BatchNormReLU2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm2 = BatchNormReLU2d(width)
        self.conv2 = nn.Conv2d(width, growth_rate, 3, padding=1, bias=False)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, growth_rate, H, W)."""
        return self.grow(self.conv1(self.norm1(x)))

    def bottleneck(self, *features: Tensor) -> Tensor:
        """Concatenate all features before it, oldest first, and narrow them to (B, bn_size * growth_rate, H, W)."""
        return self.conv1(self.norm1(torch.cat(features, 1)))

    def grow(self, x: Tensor) -> Tensor:
        """Return the new features (B, growth_rate, H, W) from the bottleneck's output."""
        return self.drop(self.conv2(self.norm2(x)))


class DenseBlock(Stage):
    """Layers of which each adds its output to the concatenation of all before; `grad_checkpointing` saves memory."""

    def __init__(self, depth: int, in_channels: int, growth_rate: int, bn_size: int, drop_rate: float) -> None:
        super().__init__()
        for i in range(depth):
            layer = DenseLayer(in_channels + i * growth_rate, growth_rate, bn_size, drop_rate)
            self.add_module(f"denselayer{i + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C + depth * growth_rate, H, W)."""
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return self._forward_checkpointed(x)
        for layer in self:
            x = torch.cat((x, layer(x)), 1)  # running: one addition of gradients a layer
        return x

    @torch.jit.ignore
    def _forward_checkpointed(self, x: Tensor) -> Tensor:
        """Keep each layer's features and bottleneck alone; the concatenations are made again."""
        features = [x]
        for layer in self:
            narrowed = checkpoint(layer.bottleneck, *features, use_reentrant=False)
            features.append(layer.grow(narrowed))
        return torch.cat(features, 1)


class Transition(nn.Sequential):
    """Norm, ReLU, 1x1 convolution and average pooling: narrows the channels and halves the map."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        super().__init__(OrderedDict(norm=BatchNormReLU2d(in_channels), conv=conv, pool=nn.AvgPool2d(2)))


class DenseNet(PooledNetwork):
    """A 7x7 convolution and a max pool, then dense blocks with transitions between them.

    Args:
        growth_rate: Channels that a layer adds; the stem has twice as many.
        block_config: Layers in each block.
        bn_size: Width of the bottlenecks, in growth rates.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "" (none).
        drop_rate: Dropout in front of the classifier.
        proj_drop_rate: Dropout on the output of every layer (the paper: 0.2 on small sets without augmentation).
        memory_efficient: Compute concatenations and bottlenecks again in the backward pass instead of keeping them;
            `set_grad_checkpointing` switches the same.
    """

    classifier_name = "classifier"

    def __init__(
        self,
        growth_rate: int = 32,
        block_config: Sequence[int] = (6, 12, 24, 16),
        bn_size: int = 4,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__()
        channels, reduction = 2 * growth_rate, 4
        self.features = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(in_chans, channels, 7, stride=2, padding=3, bias=False),
                norm0=BatchNormReLU2d(channels),
                pool0=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.feature_info = [{"num_chs": channels, "reduction": 2, "module": "features.norm0"}]
        for i, depth in enumerate(block_config, start=1):
            if i > 1:
                self._add_features(channels, reduction, f"denseblock{i - 1}")
                self.features.add_module(f"transition{i - 1}", Transition(channels, channels // 2))
                channels, reduction = channels // 2, 2 * reduction
            block = DenseBlock(depth, channels, growth_rate, bn_size, proj_drop_rate)
            self.features.add_module(f"denseblock{i}", block)
            channels += depth * growth_rate
        self.features.add_module("norm5", BatchNormReLU2d(channels))
        self._add_features(channels, reduction, "norm5")

        self.add_head(num_classes, global_pool, drop_rate)
        self.set_grad_checkpointing(memory_efficient)
        self._init_weights()

    def _add_features(self, channels: int, reduction: int, name: str) -> None:
        self.feature_info.append({"num_chs": channels, "reduction": reduction, "module": f"features.{name}"})

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map (B, C, H/32, W/32) of images (B, in_chans, H, W)."""
        return self.features(x)

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules of `forward_features` in order."""
        return list(self.features)

    def depth_chain(self) -> list[nn.Module]:
        """Return the modules in front of the head, which as in the reference has the last norm."""
        return list(self.features)[:-1]

    def classify(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of the pooled features (B, head_hidden_size)."""
        return self.classifier(x)


PAPER = Paper(
    title="Densely Connected Convolutional Networks",
    authors="Gao Huang, Zhuang Liu, Laurens van der Maaten, Kilian Q. Weinberger",
    year=2016,
    url="https://arxiv.org/abs/1608.06993",
)

register(
    DenseNet,
    PAPER,
    {
        "densenet121": {"growth_rate": 32, "block_config": (6, 12, 24, 16)},
        "densenet161": {"growth_rate": 48, "block_config": (6, 12, 36, 24)},
        "densenet169": {"growth_rate": 32, "block_config": (6, 12, 32, 32)},
        "densenet201": {"growth_rate": 32, "block_config": (6, 12, 48, 32)},
    },
    feature_cfg={"flatten_sequential": True},
    top1={"densenet121": 76.486, "densenet161": 77.384, "densenet169": 75.922, "densenet201": 77.284},
)
