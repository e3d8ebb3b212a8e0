"""What the tests know of AlexNet."""

from collections.abc import Callable
from functools import partial

from plant import change, lost_bias, replace
from torch import nn

PARAMETERS = {"alexnet": 61_100_840, "alexnet_lrn": 62_378_344}

SMALL = {"alexnet_lrn": {"widths": (8, 12, 16, 16, 8), "hidden_size": 32}}

VARIATIONS = [
    ("alexnet_lrn", {**SMALL["alexnet_lrn"], "in_chans": 1, "drop_rate": 0.0}, (224, 240)),
    ("alexnet_lrn", {"widths": (96, 256, 384, 384, 256), "hidden_size": 64}),
]


def swapped(one: int, other: int) -> Callable[[nn.Module], None]:
    """Run two layers without weights in the other order."""

    def plant(model: nn.Module) -> None:
        model.features[one], model.features[other] = model.features[other], model.features[one]

    return plant


MISTAKES = {
    "alexnet_lrn": {
        "LRN's alpha for the sum": change("features.2", alpha=5e-4),
        "LRN's k of 1": change("features.6", k=1.0),
        "LRN's exponent of 1": change("features.2", beta=1.0),
        "LRN over 7 channels": change("features.6", size=7),
        "LRN behind the max pool": swapped(2, 3),
        "LRN in front of the ReLU": swapped(5, 6),
        "2x2 max pools": change("features.3", kernel_size=2),
        "padded max pool": change("features.7", padding=1),
        "average pool": replace("features.14", partial(nn.AvgPool2d, 3, 2)),
        "no ReLU": replace("features.9", nn.Identity),
        "leaky ReLU": replace("classifier.2", partial(nn.LeakyReLU, 1e-3)),
        "no ReLU between the last layers": replace("classifier.5", nn.Identity),
        "a lost bias": lost_bias("features.8"),
        "a dropout less": change("classifier.3", p=0.0),
    },
}
