"""What the tests know of ResNeXt."""

from plant import change, move_stride, replace
from torch import nn

PARAMETERS = {
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x4d": 44_177_704,
    "resnext101_32x8d": 88_791_336,
}

SLOW = ("resnext101_32x4d", "resnext101_32x8d")

SMALL = {"resnext50_32x4d": {"channels": (8, 16, 24, 32), "layers": (1, 2, 1, 1), "cardinality": 4, "base_width": 16}}

VARIATIONS = [
    # a width of 24 x 12 / 64 = 4.5 channels a group is rounded down
    (
        "resnext101_32x4d",
        {"channels": (16, 16, 24, 32), "layers": (1,) * 4, "cardinality": 3, "base_width": 12, "in_chans": 2},
    ),
]


def regrouped(model: nn.Module) -> None:
    """Hand the groups each other's channels: the same weights at the wrong places."""

    def interleave(conv: nn.Module, args: tuple) -> tuple:
        (x,) = args
        return (x.unflatten(1, (conv.groups, -1)).transpose(1, 2).flatten(1, 2),)

    model.layer2[1].conv2.register_forward_pre_hook(interleave)


MISTAKES = {
    "resnext50_32x4d": {
        "interleaved groups": regrouped,
        "no middle ReLU": replace("layer3.0.act2", nn.Identity),
        "stride in the first 1x1": move_stride("layer2.0.conv2", "layer2.0.conv1"),
        "BatchNorm eps 1e-3 behind the groups": change("layer1.0.bn2", eps=1e-3),
        "ReLU6 for ReLU": replace("layer2.1.act3", nn.ReLU6),
    },
}
