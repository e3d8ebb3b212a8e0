"""What the tests know of GoogLeNet."""

from functools import partial

from plant import after, change, replace
from torch import nn

PARAMETERS = {"googlenet": 6_624_904}

SMALL = {"googlenet": {}}

VARIATIONS = [
    ("googlenet", {"aux_logits": True}),
    ("googlenet", {"aux_logits": True, "transform_input": True, "drop_rate": 0.0, "dropout_aux": 0.5}, (90, 75)),
]

MISTAKES = {
    "googlenet": {
        "BatchNorm eps 1e-5": change("inception4b.branch3.0.bn", eps=1e-5),
        "max pool that rounds down": change("maxpool1", ceil_mode=False),
        "3x3 in the last max pool": change("maxpool4", kernel_size=3),
        "average pool in a branch": replace("inception3a.branch4.0", partial(nn.AvgPool2d, 3, 1, 1)),
        "no ReLU": replace("inception5a.branch2.0.act", nn.Identity),
        "leaky ReLU": replace("conv2.act", partial(nn.LeakyReLU, 1e-3)),
        "branches in another order": after("inception4a", lambda block, x, y: y.roll(192, 1)),
        "no dropout": change("head_drop", p=0.0),
    },
}
