"""What the tests know of ResNet."""

from collections.abc import Callable
from functools import partial

import torch
from plant import after, change, move_stride, replace
from torch import nn

PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}

SMALL = {
    "resnet18": {"channels": (8, 16, 24, 32), "layers": (2, 1, 1, 1)},
    "resnet50": {"channels": (8, 16, 24, 32), "layers": (1, 1, 2, 1)},
}

VARIATIONS = [
    ("resnet18", {"channels": (8, 16, 24, 32), "layers": (2, 1, 1, 1), "in_chans": 1, "global_pool": "catavgmax"}),
    ("resnet50", {"channels": (8, 16, 24, 32), "layers": (1, 1, 2, 1), "global_pool": "avgmax"}),
]


def without_residual(path: str) -> Callable[[nn.Module], None]:
    """Cancel what a block adds: its output becomes its input's shortcut alone."""
    return after(path, lambda module, x, y: torch.relu(module.downsample(x)))


MISTAKES = {
    "resnet18": {
        "BatchNorm eps 1e-3": change("bn1", eps=1e-3),
        "BatchNorm eps 1e-6 in the last block": change("layer4.0.bn2", eps=1e-6),
        "BatchNorm momentum 0.01": change("layer2.0.bn1", momentum=0.01),
        "no ReLU inside a block": replace("layer1.1.act1", nn.Identity),
        "no ReLU after the addition": replace("layer2.0.act2", nn.Identity),
        "ReLU6 for ReLU": replace("layer3.0.act1", nn.ReLU6),
        "stride in the second convolution": move_stride("layer2.0.conv1", "layer2.0.conv2"),
        "max pool without padding": change("maxpool", padding=0),
        "2x2 max pool": change("maxpool", kernel_size=2, padding=0),
        "average pool in the stem": replace("maxpool", partial(nn.AvgPool2d, 3, 2, 1)),
        "a branch that adds nothing": without_residual("layer1.0"),
        "replicated padding": change(
            "layer1.0.conv1", padding_mode="replicate", _reversed_padding_repeated_twice=[1] * 4
        ),
        "dropout left on": change("head_drop", p=0.1),
        "drop path left on": change("layer4.0.drop_path", drop_prob=0.5),
    },
    "resnet50": {
        "no middle ReLU": replace("layer2.0.act2", nn.Identity),
        "stride in the first 1x1": move_stride("layer3.0.conv2", "layer3.0.conv1"),
        "stride in the last 1x1": move_stride("layer3.0.conv2", "layer3.0.conv3"),
        "shortcut's BatchNorm eps": change("layer1.0.downsample.1", eps=1e-6),
        "shortcut activated": after("layer1.0.downsample", lambda module, x, y: torch.relu(y)),
        "max pool at the end": change("global_pool", pool_type="max"),
    },
}
