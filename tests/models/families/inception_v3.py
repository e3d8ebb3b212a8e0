"""What the tests know of Inception v3."""

from functools import partial

from plant import after, change, replace
from torch import nn

PARAMETERS = {"inception_v3": 23_834_568}

SMALL = {"inception_v3": {}}

IMAGE_SIZE = {"inception_v3": 107}  # two positions in each direction at the end

VARIATIONS = [
    ("inception_v3", {"in_chans": 1, "global_pool": "catavgmax"}, (75, 123)),
    ("inception_v3", {"aux_logits": True}, (299, 299)),
]

MISTAKES = {
    "inception_v3": {
        "BatchNorm eps 1e-5": change("Conv2d_1a_3x3.bn", eps=1e-5),
        "average pools that leave the padding out": change("Mixed_6c.pool", count_include_pad=False),
        "max pool in a branch": replace("Mixed_5c.pool", partial(nn.MaxPool2d, 3, 1, 1)),
        "average pool at the reduction": replace("Mixed_7a.pool", partial(nn.AvgPool2d, 3, 2)),
        "1x3 and 3x1 in a row": after("Mixed_7b.branch3x3_2b", lambda conv, x, y: y + 1e-3 * x),
        "no ReLU": replace("Mixed_6e.branch7x7dbl_3.act", nn.Identity),
        "branches in another order": after("Mixed_5b", lambda block, x, y: y.roll(64, 1)),
    },
}
