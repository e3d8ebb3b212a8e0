"""What the tests know of LeNet-5."""

from functools import partial

from plant import after, change, lost_bias, replace
from torch import nn

PARAMETERS = {"lenet5": 61_706}

SMALL = {"lenet5": {}}

VARIATIONS = [("lenet5", {"in_chans": 3, "global_pool": "max"})]

MISTAKES = {
    "lenet5": {
        "ReLU for tanh": replace("act3", nn.ReLU),
        "no activation after C5": replace("act5", nn.Identity),
        "no activation after F6": replace("head.pre_logits.act", nn.Identity),
        "the paper's scaled tanh": after("c1", lambda module, x, y: y * 2 / 3),
        "max pooling": replace("s2", partial(nn.MaxPool2d, 2)),
        "overlapping pooling": change("s4", kernel_size=3, padding=1),
        "a lost bias": lost_bias("c3"),
    },
}
