"""What the tests know of EfficientNet."""

import torch
import torch.nn.functional as F
from plant import after, change, lost_bias, replace
from torch import nn

PARAMETERS = {
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
}

SLOW = tuple(f"efficientnet_b{i}" for i in range(2, 8))

SMALL = {"efficientnet_b0": {}}  # the reference takes no argument that makes it smaller

VARIATIONS = [("efficientnet_b0", {"in_chans": 1, "global_pool": "avgmax"})]

IMAGE_SIZE = dict.fromkeys(PARAMETERS, 32)


def padded_below_and_right(conv: nn.Conv2d, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """TensorFlow's padding of a convolution with stride 2."""
    return F.conv2d(F.pad(x, (0, 1, 0, 1)), conv.weight, stride=2)


MISTAKES = {
    "efficientnet_b0": {
        "BatchNorm eps 1e-3": change("blocks.4.1.bn2", eps=1e-3),
        "ReLU for SiLU": replace("blocks.3.0.act2", nn.ReLU),
        "ReLU in the squeeze-and-excitation": replace("blocks.2.1.se.act1", nn.ReLU),
        "a hard sigmoid": replace("blocks.5.1.se.gate", nn.Hardsigmoid),
        "no squeeze-and-excitation": after("blocks.0.0.se", lambda module, x, y: x),
        "a lost bias": lost_bias("blocks.1.0.se.conv_expand"),
        "an activated bottleneck": after("blocks.6.0.bn3", lambda module, x, y: F.silu(y)),
        "no residual": change("blocks.3.2", has_skip=False),
        "TensorFlow's padding": after("conv_stem", padded_below_and_right),
        "drop path left on": change("blocks.5.2.drop_path", drop_prob=0.2),
    }
}
