"""What the tests know of SE-ResNet."""

from plant import after, change, lost_bias, replace
from torch import Tensor, nn

from cnnbench.models.resnet import BasicBlock

PARAMETERS = {
    "seresnet18": 11_779_624,
    "seresnet34": 21_960_416,
    "seresnet50": 28_088_024,
    "seresnet101": 49_326_872,
    "seresnext50_32x4d": 27_559_896,
}

SLOW = ("seresnet34", "seresnet50", "seresnet101")

SMALL = {
    "seresnet18": {"channels": (8, 16, 24, 32), "layers": (2, 1, 1, 1)},
    "seresnet50": {"channels": (8, 16, 24, 32), "layers": (1, 1, 2, 1)},
}

VARIATIONS = [
    (
        "seresnext50_32x4d",
        {"channels": (8, 16, 40, 72), "layers": (1,) * 4, "cardinality": 2, "base_width": 32, "global_pool": "max"},
    ),
]


class GatedSum(BasicBlock):
    """Gate behind the addition: what a block adds goes past the gate, its sum through it."""

    def forward(self, x: Tensor) -> Tensor:
        added = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        return self.act2(self.se(added + self.downsample(x)))


def maximum(se: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return x * se.gate(se.fc2(se.act(se.fc1(x.amax((2, 3), keepdim=True)))))


MISTAKES = {
    "seresnet18": {
        "no gate": replace("layer2.0.se", nn.Identity),
        "gate behind the addition": change("layer1.1", __class__=GatedSum),
        "hard sigmoid": replace("layer1.0.se.gate", nn.Hardsigmoid),
        "SiLU between the layers": replace("layer2.0.se.act", nn.SiLU),
        "squeezed by the maximum": after("layer3.0.se", maximum),
        "a lost bias": lost_bias("layer1.1.se.fc1"),
        "a gate that adds": after("layer4.0.se", lambda se, x, y: x + y),
    },
    "seresnet50": {
        "no activation between the layers": replace("layer1.0.se.act", nn.Identity),
        "a gate of twice the sigmoid": after("layer3.1.se", lambda se, x, y: 2 * y),
        "BatchNorm eps in front of the gate": change("layer2.0.bn3", eps=1e-6),
        "gate in front of the last norm": after(
            "layer2.0.conv3", lambda conv, x, y: y * y.mean((2, 3), keepdim=True).sigmoid()
        ),
    },
}
