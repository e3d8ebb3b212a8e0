"""What the tests know of VGG."""

from functools import partial

from plant import after, change, lost_bias, replace
from torch import nn

PARAMETERS = {
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
}

SLOW = tuple(PARAMETERS)

SMALL = {"vgg11": {"mlp_ratio": 1 / 512}, "vgg11_bn": {"mlp_ratio": 1 / 512}}

IMAGE_SIZE = dict.fromkeys(PARAMETERS, 32)

REORDERED = tuple(PARAMETERS)  # the fully connected layers as matrix products

VARIATIONS = [
    ("vgg11", {"mlp_ratio": 1 / 512, "global_pool": "catavgmax", "drop_rate": 0.5, "in_chans": 1}, (256, 32)),
    ("vgg13_bn", {"mlp_ratio": 1 / 512, "global_pool": "max"}),
    ("vgg16", {"mlp_ratio": 1 / 512}),
]

MISTAKES = {
    "vgg11": {
        "no ReLU": replace("features.4", nn.Identity),
        "leaky ReLU": replace("features.1", partial(nn.LeakyReLU, 1e-3)),
        "average pools": replace("features.2", partial(nn.AvgPool2d, 2)),
        "overlapping max pools": change("features.5", kernel_size=3, padding=1),
        "zeros around a small map": replace("features.20", partial(nn.MaxPool2d, 2, padding=1)),
        "a lost bias": lost_bias("pre_logits.fc2"),
        "a ReLU less in front of the classifier": replace("pre_logits.act2", nn.Identity),
        "dropout left on": change("head.drop", p=0.1),
        "the map turned in front of the fully connected layers": after("features.20", lambda pool, x, y: y.flip(1)),
    },
    "vgg11_bn": {
        "BatchNorm eps 1e-3": change("features.1", eps=1e-3),
        "BatchNorm momentum 0.01": change("features.5", momentum=0.01),
    },
}
