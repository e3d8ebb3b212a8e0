"""What the tests know of DenseNet."""

from functools import partial

import torch
from plant import after, change, replace
from torch import Tensor, nn

from cnnbench.models.densenet import DenseBlock, DenseLayer

PARAMETERS = {
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
}

SLOW = ("densenet161", "densenet169", "densenet201")

SMALL = {"densenet121": {"growth_rate": 4, "block_config": (2, 3, 1, 2)}}

IMAGE_SIZE = {"densenet121": 72}  # the second transition halves a map 9 wide: it drops a row and a column

VARIATIONS = [
    ("densenet121", {"growth_rate": 4, "block_config": (1, 3, 2), "in_chans": 1, "global_pool": "catavgmax"}),
    ("densenet121", {"growth_rate": 4, "block_config": (2, 3, 1, 2), "memory_efficient": True}),
    ("densenet161", {"growth_rate": 6, "block_config": (1, 1, 1, 1), "bn_size": 2, "global_pool": "avgmax"}),
]


class NewestFirst(DenseBlock):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = torch.cat((layer(x), x), 1)
        return x


class WithoutGradient(DenseBlock):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = torch.cat((x, layer(x.detach())), 1)
        return x


class ActivationLast(DenseLayer):
    def grow(self, x: Tensor) -> Tensor:
        return super().grow(x).relu()


MISTAKES = {
    "densenet121": {
        "BatchNorm eps 1e-3 in the stem": change("features.norm0", eps=1e-3),
        "BatchNorm eps 1e-6 in a layer": change("features.denseblock2.denselayer3.norm1", eps=1e-6),
        "BatchNorm momentum 0.01": change("features.transition2.norm", momentum=0.01),
        "no ReLU in front of the bottleneck": change(
            "features.denseblock1.denselayer2.norm1", __class__=nn.BatchNorm2d
        ),
        "no ReLU after the bottleneck": change("features.denseblock3.denselayer1.norm2", __class__=nn.BatchNorm2d),
        "no ReLU in a transition": change("features.transition1.norm", __class__=nn.BatchNorm2d),
        "no ReLU at the end": change("features.norm5", __class__=nn.BatchNorm2d),
        "ReLU after the 3x3 convolution": change("features.denseblock1.denselayer1", __class__=ActivationLast),
        "newest features first": change("features.denseblock2", __class__=NewestFirst),
        "no gradient through the layers": change("features.denseblock2", __class__=WithoutGradient),
        "a layer blind to the block's input": after(
            "features.denseblock2.denselayer3.norm1", lambda module, x, y: torch.cat((0 * y[:, :8], y[:, 8:]), 1)
        ),
        "max pool in a transition": replace("features.transition1.pool", partial(nn.MaxPool2d, 2)),
        "ceil mode in a transition": change("features.transition2.pool", ceil_mode=True),
        "max pool without padding": change("features.pool0", padding=0),
        "average pool in the stem": replace("features.pool0", partial(nn.AvgPool2d, 3, 2, 1)),
        "max pool at the end": change("global_pool", pool_type="max"),
        "dropout left on in a layer": change("features.denseblock4.denselayer1.drop", p=0.1),
        "dropout left on in the head": change("head_drop", p=0.1),
    },
}
