"""What the tests know of the ResNet for CIFAR."""

from functools import partial

import torch
from plant import after, change, move_stride, replace
from torch import nn

PARAMETERS = {"mini_resnet": 2_777_674}

SMALL = {"mini_resnet": {"channels": (8, 16, 24), "layers": (2, 1, 1)}}

VARIATIONS = [("mini_resnet", {"channels": (64, 8, 16), "layers": (1, 2, 1), "in_chans": 1, "global_pool": "max"})]

MISTAKES = {
    "mini_resnet": {
        "a max pool in the stem": replace("maxpool", partial(nn.MaxPool2d, 3, 1, 1)),
        "a stem that strides": change("conv1", stride=(2, 2)),
        "no ReLU in the stem": replace("act1", nn.Identity),
        "stride in the second convolution": move_stride("layer2.0.conv1", "layer2.0.conv2"),
        "a fourth stage": after("layer4", lambda stage, x, y: torch.relu(y - 0.1)),
        "BatchNorm eps 1e-3": change("layer3.0.bn2", eps=1e-3),
    },
}
