"""What the tests know of ConvNeXt."""

from functools import partial

from plant import after, change, lost_bias, replace
from torch import Tensor, nn

from cnnbench.layers import NormMlpHead

PARAMETERS = {
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
}

SLOW = ("convnext_large",)

SMALL = {"convnext_tiny": {"dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1)}}

VARIATIONS = [
    ("convnext_tiny", {"dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1), "patch_size": 2, "global_pool": "max"}),
    ("convnext_small", {"dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "patch_size": 1}),
    (
        "convnext_base",
        {"dims": (8, 16, 24, 32), "depths": (1,) * 4, "kernel_sizes": (3, 5, 7, 9), "global_pool": ""},
    ),
]


class NormFirstHead(NormMlpHead):
    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.fc(self.flatten(self.global_pool(self.norm(x))))


MISTAKES = {
    "convnext_tiny": {
        "LayerNorm eps 1e-5 in a block": change("stages.2.blocks.1.norm", eps=1e-5),
        "LayerNorm eps 1e-5 in the stem": change("stem.1", eps=1e-5),
        "LayerNorm eps 1e-5 in the head": change("head.norm", eps=1e-5),
        "ReLU for GELU": replace("stages.0.blocks.0.mlp.act", nn.ReLU),
        "tanh GELU": replace("stages.3.blocks.0.mlp.act", partial(nn.GELU, approximate="tanh")),
        "SiLU for GELU": replace("stages.1.blocks.0.mlp.act", nn.SiLU),
        "no layer scale": after(
            "stages.1.blocks.0", lambda block, x, y: x + (y - x) / block.gamma.reshape(1, -1, 1, 1)
        ),
        "an activation after the depthwise convolution": after(
            "stages.0.blocks.0.conv_dw", lambda module, x, y: nn.functional.gelu(y)
        ),
        "norm after the downsampling convolution": after("stages.1.downsample.0", lambda module, x, y: x + 0.01 * y),
        "a lost bias": lost_bias("stages.1.blocks.0.conv_dw"),
        "norm before the pooling": change("head", __class__=NormFirstHead),
        "dropout left on": change("head.drop", p=0.1),
    },
}
