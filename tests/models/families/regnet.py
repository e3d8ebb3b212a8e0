"""What the tests know of RegNet."""

from collections.abc import Callable
from functools import partial

import torch
from plant import after, change, lost_bias, move_stride, replace
from torch import Tensor, nn

from cnnbench.layers import SqueezeExcite
from cnnbench.models.regnet import Bottleneck

PARAMETERS = {
    "regnetx_002": 2_684_792,
    "regnetx_004": 5_157_512,
    "regnetx_008": 7_259_656,
    "regnetx_016": 9_190_136,
    "regnetx_032": 15_296_552,
    "regnety_002": 3_162_996,
    "regnety_004": 4_344_144,
    "regnety_008": 6_263_168,
    "regnety_016": 11_202_430,
    "regnety_032": 19_436_338,
}

SLOW = ("regnetx_008", "regnetx_016", "regnetx_032", "regnety_008", "regnety_016", "regnety_032")

TINY = {"w0": 8, "wa": 8, "wm": 1.5, "depth": 6, "group_size": 4, "stem_width": 8}  # 8, 16, 24, 24, 40, 40 channels

SMALL = {"regnetx_002": TINY, "regnety_002": TINY}

VARIATIONS = [
    ("regnetx_002", TINY | {"group_size": 12, "in_chans": 1, "global_pool": "catavgmax"}),
    ("regnety_002", TINY | {"stem_width": 12, "se_ratio": 0.5, "global_pool": "avgmax"}),
    ("regnety_004", TINY | {"drop_path_rate": 0.5, "drop_rate": 0.2, "zero_init_last": False}),
]


class ExcitedLast(Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(x)
        x = self.conv3(self.conv2(self.conv1(x)))
        return self.act3(self.se(x) + shortcut)


class MaxSqueeze(SqueezeExcite):
    def forward(self, x: Tensor) -> Tensor:
        weights = self.fc2(self.act(self.fc1(x.amax((2, 3), keepdim=True))))
        return x * self.gate(weights)


def without_residual(path: str) -> Callable[[nn.Module], None]:
    """Cancel what a block adds: its output becomes its input's shortcut alone."""
    return after(path, lambda module, x, y: torch.relu(module.downsample(x)))


MISTAKES = {
    "regnetx_002": {
        "BatchNorm eps 1e-3": change("stem.bn", eps=1e-3),
        "BatchNorm eps 1e-6 in the last block": change("s4.b2.conv3.bn", eps=1e-6),
        "BatchNorm momentum 0.01": change("s2.b1.conv2.bn", momentum=0.01),
        "shortcut's BatchNorm eps": change("s1.b1.downsample.bn", eps=1e-6),
        "no first ReLU in a block": replace("s1.b1.conv1.act", nn.Identity),
        "no middle ReLU in a block": replace("s3.b2.conv2.act", nn.Identity),
        "no ReLU after the addition": replace("s2.b1.act3", nn.Identity),
        "ReLU before the addition": after("s3.b1.conv3", lambda module, x, y: y.clamp(min=0)),
        "SiLU for ReLU": replace("s4.b1.conv2.act", nn.SiLU),
        "ReLU6 for ReLU": replace("stem.act", nn.ReLU6),
        "shortcut activated": after("s2.b1.downsample", lambda module, x, y: torch.relu(y)),
        "a branch that adds nothing": without_residual("s3.b2"),
        "stride in the first 1x1": move_stride("s2.b1.conv2.conv", "s2.b1.conv1.conv"),
        "stride in the last 1x1": move_stride("s2.b1.conv2.conv", "s2.b1.conv3.conv"),
        "channels shuffled between groups": after(
            "s3.b1.conv2", lambda module, x, y: nn.functional.channel_shuffle(y, module.conv.groups)
        ),
        "max pool at the end": change("head.global_pool", pool_type="max"),
        "dropout left on": change("head.drop", p=0.1),
        "drop path left on": change("s4.b2.drop_path", drop_prob=0.5),
    },
    "regnety_002": {
        "no gate": replace("s2.b1.se.gate", nn.Identity),
        "hard sigmoid for sigmoid": replace("s2.b1.se.gate", nn.Hardsigmoid),
        "no ReLU in the gate": replace("s3.b2.se.act", nn.Identity),
        "SiLU in the gate": replace("s4.b1.se.act", partial(nn.SiLU, inplace=True)),
        "a lost bias in the gate": lost_bias("s1.b1.se.fc1"),
        "excitation after the last convolution": change("s3.b1", __class__=ExcitedLast),
        "the largest position for the mean": change("s3.b1.se", __class__=MaxSqueeze),
        "excitation added to its input": after("s4.b2.se", lambda module, x, y: x + y),
    },
}
