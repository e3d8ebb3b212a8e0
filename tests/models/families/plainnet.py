"""What the tests know of plain networks."""

from functools import partial

import torch
from plant import after, change, move_stride, replace
from torch import nn

PARAMETERS = {  # of ResNet-18 and 34, less the three projections: 172,032 weights and 1,792 of their norms
    "plainnet18": 11_689_512 - 173_824,
    "plainnet34": 21_797_672 - 173_824,
}

SLOW = ("plainnet34",)

SMALL = {"plainnet18": {"channels": (8, 16, 24, 32), "layers": (2, 1, 1, 1)}}

VARIATIONS = [("plainnet34", {"channels": (8, 16, 24, 32), "layers": (1, 2, 1, 1), "global_pool": "avgmax"})]

MISTAKES = {
    "plainnet18": {
        "a shortcut": after("layer1.1.bn2", lambda norm, x, y: y + torch.relu(x)),
        "no ReLU at the end of a block": replace("layer2.0.act2", nn.Identity),
        "stride in the second convolution": move_stride("layer3.0.conv1", "layer3.0.conv2"),
        "BatchNorm eps 1e-3": change("layer4.0.bn2", eps=1e-3),
        "leaky ReLU": replace("layer1.0.act1", partial(nn.LeakyReLU, 0.01)),
    },
}
