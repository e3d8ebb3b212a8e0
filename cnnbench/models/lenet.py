"""LeNet-5: Yann LeCun, Léon Bottou, Yoshua Bengio, Patrick Haffner, 1998, https://doi.org/10.1109/5.726791.

The one idea: local receptive fields, shared weights and subsampling let a network learn its features from
pixels, instead of being handed them, and make it indifferent to where on the page a stroke stands.

The layers carry the paper's names. As in every modern account, and in the reference, four details are simpler
than in the paper: C3 sees all maps of S2 (the paper connects a chosen part), S2 and S4 average without a
trained scale and bias, the activation is a plain tanh (the paper: 1.7159 tanh(2x/3)), and the output is
linear (the paper: distances to drawn prototypes). Images larger than 32x32 are averaged over the positions of
C5.
"""

from torch import Tensor, nn

from cnnbench.layers import HeadNetwork, NormMlpHead
from cnnbench.models.references import lenet5 as reference
from cnnbench.models.registry import Paper, register


class LeNet5(HeadNetwork):
    """Two convolutions with subsampling, a third that reads what is left, and two fully connected layers.

    Args:
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images, which are at least 32x32 pixels.
        global_pool: "avg", "max", "avgmax" or "" (none); at 32x32 there is one position to pool.
        drop_rate: Dropout in front of the output.
    """

    def __init__(
        self, num_classes: int = 10, in_chans: int = 1, global_pool: str = "avg", drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(in_chans, 6, 5)
        self.act1 = nn.Tanh()
        self.s2 = nn.AvgPool2d(2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.act3 = nn.Tanh()
        self.s4 = nn.AvgPool2d(2)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.act5 = nn.Tanh()
        self.feature_info = [
            {"num_chs": 6, "reduction": 1, "module": "act1"},
            {"num_chs": 16, "reduction": 2, "module": "act3"},
            {"num_chs": 120, "reduction": 4, "module": "act5"},
        ]
        self.num_features = 120
        f6_and_output = NormMlpHead(120, num_classes, global_pool, drop_rate, hidden_size=84, act_layer=nn.Tanh)
        self.add_head(f6_and_output, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the maps of C5 of images (B, in_chans, H, W); the shapes below are for 32x32."""
        x = self.act1(self.c1(x))  # (B, 6, 28, 28)
        x = self.s2(x)  # (B, 6, 14, 14)
        x = self.act3(self.c3(x))  # (B, 16, 10, 10)
        x = self.s4(x)  # (B, 16, 5, 5)
        return self.act5(self.c5(x))  # (B, 120, 1, 1)

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules of `forward_features` in order."""
        return [self.c1, self.act1, self.s2, self.c3, self.act3, self.s4, self.c5, self.act5]


PAPER = Paper(
    title="Gradient-Based Learning Applied to Document Recognition",
    authors="Yann LeCun, Léon Bottou, Yoshua Bengio, Patrick Haffner",
    year=1998,
    url="https://doi.org/10.1109/5.726791",
)

register(
    LeNet5,
    PAPER,
    {"lenet5": {}},
    reference=reference,
    feature_cfg={"out_indices": (0, 1, 2)},
    pretrained_cfg={
        "num_classes": 10,
        "input_size": (1, 32, 32),
        "pool_size": (1, 1),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.1307,),  # of MNIST
        "std": (0.3081,),
        "first_conv": "c1",
        "classifier": "head.fc",
    },
)
