"""References for what neither timm nor torchvision has: put together from timm's layers, not from ours."""

from typing import Any

import torch
from timm.layers import NormMlpClassifierHead, create_act_layer, create_conv2d, create_pool2d
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn


class _Assembled(nn.Sequential):
    """Named layers in a row, then a head of timm: what timm's builders need of a model."""

    def __init__(self, layers: dict[str, nn.Module], head: NormMlpClassifierHead, features: dict[str, int]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.head = head
        self.num_features = head.in_features
        self.head_hidden_size = head.num_features
        self.num_classes = getattr(head.fc, "out_features", getattr(head.fc, "out_channels", 0))
        self.feature_info = [
            {"num_chs": layers[name.replace("act", "c")].out_channels, "reduction": reduction, "module": name}
            for name, reduction in features.items()
        ]


def lenet5(num_classes: int = 10, in_chans: int = 1, global_pool: str = "avg", drop_rate: float = 0.0) -> nn.Module:
    """Assemble LeNet-5 (LeCun et al., 1998): tanh, average pooling, C3 fully connected to S2."""
    layers = {
        "c1": create_conv2d(in_chans, 6, 5, padding=0, bias=True),
        "act1": create_act_layer("tanh"),
        "s2": create_pool2d("avg", 2, padding=0),
        "c3": create_conv2d(6, 16, 5, padding=0, bias=True),
        "act3": create_act_layer("tanh"),
        "s4": create_pool2d("avg", 2, padding=0),
        "c5": create_conv2d(16, 120, 5, padding=0, bias=True),
        "act5": create_act_layer("tanh"),
    }
    head = NormMlpClassifierHead(
        120,
        num_classes,
        hidden_size=84,
        pool_type=global_pool,
        drop_rate=drop_rate,
        norm_layer=nn.Identity,
        act_layer="tanh",
    )
    return _Assembled(layers, head, features={"act1": 1, "act3": 2, "act5": 4})


class _Nothing(nn.Module):
    """A shortcut that adds zero."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


class _PlainBlock(BasicBlock):
    """timm's block, its shortcut dropped."""

    def __init__(self, inplanes: int, planes: int, stride: int, downsample: nn.Module | None, **kwargs: Any) -> None:
        super().__init__(inplanes, planes, stride, _Nothing(), **kwargs)


def _initialised(model: ResNet) -> ResNet:
    """Give a network that was laid out on the meta device its first weights, each drawn once, as timm's have them.

    What timm lays out and is dropped here would else have drawn too.
    """
    model.to_empty(device=torch.get_default_device())
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model


def plainnet18(layers: tuple[int, ...] = (2, 2, 2, 2), **kwargs: Any) -> nn.Module:
    """Assemble the plain network of 18 layers (He et al., 2015): timm's ResNet without its shortcuts."""
    model = _initialised(ResNet(_PlainBlock, layers, device="meta", **kwargs))
    model.init_weights(zero_init_last=False)
    return model


def plainnet34(layers: tuple[int, ...] = (3, 4, 6, 3), **kwargs: Any) -> nn.Module:
    """Assemble the plain network of 34 layers."""
    return plainnet18(layers, **kwargs)


def mini_resnet(
    layers: tuple[int, ...] = (2, 2, 2),
    channels: tuple[int, ...] = (64, 128, 256),
    num_classes: int = 10,
    in_chans: int = 3,
    **kwargs: Any,
) -> nn.Module:
    """Assemble a ResNet for CIFAR: timm's with three stages, a 3x3 stem at full resolution and no max pool."""
    model = ResNet(
        BasicBlock, layers, channels=channels, num_classes=num_classes, in_chans=in_chans, device="meta", **kwargs
    )
    model.conv1 = nn.Conv2d(in_chans, 64, 3, padding=1, bias=False, device="meta")
    model.maxpool = nn.Identity()
    model.layer4 = nn.Sequential()
    for i, info in enumerate(model.feature_info):
        info["reduction"] = 2 ** max(i - 1, 0)
    model = _initialised(model)
    model.init_weights()
    return model


class _AlexNet(nn.Module):
    """AlexNet's features and classifier in torch's layers, with what timm's builders need of a model."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential, taps: dict[int, int]) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier
        self.num_features = features[-3].out_channels
        self.head_hidden_size = classifier[4].out_features
        self.num_classes = getattr(classifier[6], "out_features", 0)
        self.feature_info = [
            {
                "num_chs": [m for m in features[: index + 1] if isinstance(m, nn.Conv2d)][-1].out_channels,
                "reduction": reduction,
                "module": f"features.{index}",
            }
            for index, reduction in taps.items()
        ]

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(nn.functional.adaptive_avg_pool2d(self.features(x), 6).flatten(1))


def alexnet_lrn(
    widths: tuple[int, ...] = (96, 256, 384, 384, 256),
    hidden_size: int = 4096,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.5,
) -> nn.Module:
    """Assemble AlexNet (Krizhevsky et al., 2012) in one column, with its local response normalisation."""
    c1, c2, c3, c4, c5 = widths
    features = nn.Sequential(
        *(nn.Conv2d(in_chans, c1, 11, 4, 2), nn.ReLU(), nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(c1, c2, 5, 1, 2), nn.ReLU(), nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(c2, c3, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(c3, c4, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(c4, c5, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )
    classifier = nn.Sequential(
        *(nn.Dropout(drop_rate), nn.Linear(c5 * 6 * 6, hidden_size), nn.ReLU()),
        *(nn.Dropout(drop_rate), nn.Linear(hidden_size, hidden_size), nn.ReLU()),
        nn.Linear(hidden_size, num_classes) if num_classes else nn.Identity(),
    )
    return _AlexNet(features, classifier, taps={1: 4, 5: 8, 13: 16, 14: 32})
