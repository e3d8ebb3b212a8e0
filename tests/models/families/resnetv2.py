"""What the tests know of ResNet v2."""

from collections.abc import Callable

import torch
from plant import after, change, lost_bias, move_stride, replace
from torch import nn

PARAMETERS = {
    "resnetv2_18": 11_687_720,
    "resnetv2_34": 21_795_880,
    "resnetv2_50": 25_549_352,
    "resnetv2_101": 44_541_480,
}

SLOW = ("resnetv2_34", "resnetv2_101")

SMALL = {
    "resnetv2_18": {"channels": (64, 16, 24, 32), "layers": (1, 2, 1, 1)},
    "resnetv2_50": {"channels": (64, 32, 48, 64), "layers": (1, 1, 2, 1)},
}

VARIATIONS = [
    ("resnetv2_34", {"channels": (8, 16, 24, 32), "layers": (1,) * 4, "in_chans": 1, "global_pool": "catavgmax"}),
    ("resnetv2_50", {"channels": (24, 32, 40, 64), "layers": (2, 1, 1, 1), "global_pool": ""}),
]


def raw_shortcut(path: str) -> Callable[[nn.Module], None]:
    """Project what comes into a block instead of what its first ReLU gives."""

    def plant(model: nn.Module) -> None:
        block = model.get_submodule(path)
        inputs = []
        block.register_forward_pre_hook(lambda block, args: inputs.append(args[0].clone()))
        block.downsample.register_forward_pre_hook(lambda projection, args: (inputs.pop(),))

    return plant


MISTAKES = {
    "resnetv2_18": {
        "shortcut of the raw input": raw_shortcut("stages.1.blocks.0"),
        "an activated identity": after(
            "stages.1.blocks.1", lambda block, x, y: y - x + torch.relu(block.norm1(x.clone()))
        ),
        "ReLU after the addition": after("stages.2.blocks.0", lambda block, x, y: torch.relu(y)),
        "no final ReLU": replace("act", nn.Identity),
        "no inner ReLU": replace("stages.0.blocks.0.act2", nn.Identity),
        "an activated stem": after("stem.conv", lambda conv, x, y: torch.relu(y)),
        "final norm's eps": change("norm", eps=1e-6),
        "stride in the second convolution": move_stride("stages.3.blocks.0.conv1", "stages.3.blocks.0.conv2"),
        "a lost bias": lost_bias("head.fc"),
        "max pool without padding": change("stem.pool", padding=0),
    },
    "resnetv2_50": {
        "stride in the first 1x1": move_stride("stages.2.blocks.0.conv2", "stages.2.blocks.0.conv1"),
        "no middle ReLU": replace("stages.2.blocks.1.act2", nn.Identity),
        "norm behind the last convolution": after(
            "stages.1.blocks.0.conv3", lambda conv, x, y: nn.functional.batch_norm(y, None, None, training=True)
        ),
        "dropout left on": change("head.drop", p=0.1),
    },
}
