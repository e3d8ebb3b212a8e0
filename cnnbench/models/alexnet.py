"""AlexNet: Krizhevsky, Sutskever, Hinton, 2012, and in one column Krizhevsky, 2014, https://arxiv.org/abs/1404.5997.

The one idea: a convolutional network that is large and deep for its time can be trained on a million images,
by rectified linear units, which do not saturate, by graphics processors, and by dropout against overfitting.

`alexnet` is the network of 2014, which trains on one device and leaves out the local response normalisation.
`alexnet_lrn` has the widths and the normalisation of 2012, without the split of some layers over two devices.
Both start from PyTorch's own initial weights, as the reference does, and pool to 6x6, so that images of other
sizes do too.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.layers import Network, PooledStage, linear
from cnnbench.models.references import alexnet_lrn
from cnnbench.models.registry import Paper, register

KERNEL_SIZES = (11, 5, 3, 3, 3)
POOLED = (0, 1, 4)  # the convolutions that a max pool follows


class LocalResponseNorm(nn.Module):
    """Divide each channel by a power of the energy of its neighbours at the same position (section 3.3).

    y_c = x_c / (k + alpha/size * sum of x_j^2 over the `size` channels around c) ^ beta. As in the authors' own
    program and in PyTorch, alpha counts for the mean; the paper's formula has it before the sum.

    Args:
        size: Channels that are summed, an odd number.
        alpha: Weight of their mean square.
        beta: The exponent.
        k: What is added to it.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, H, W)."""
        channels, half = x.shape[1], self.size // 2
        squares = F.pad(x * x, (0, 0, 0, 0, half, half))
        energy = squares[:, :channels]
        for i in range(1, self.size):
            energy = energy + squares[:, i : i + channels]
        return x / (energy / self.size * self.alpha + self.k) ** self.beta


class AlexNet(Network):
    """Five convolutions, three of them followed by a max pool, and three fully connected layers.

    Args:
        widths: Channels of the five convolutions.
        hidden_size: Width of the two hidden fully connected layers.
        lrn: Whether local response normalisation follows the first two convolutions.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        drop_rate: Dropout in front of the first two fully connected layers.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 192, 384, 256, 256),
        hidden_size: int = 4096,
        lrn: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.feature_info = []
        layers: list[nn.Module] = []
        reduction = 4
        for i, (width, kernel_size) in enumerate(zip(widths, KERNEL_SIZES, strict=True)):
            stride, padding = (4, 2) if i == 0 else (1, kernel_size // 2)
            layers += [nn.Conv2d(in_chans, width, kernel_size, stride, padding), nn.ReLU(inplace=True)]
            in_chans = width
            if i in POOLED:
                self._note_feature(width, reduction, len(layers) - 1)
                layers += [LocalResponseNorm()] if lrn and i < 2 else []
                layers += [nn.MaxPool2d(3, stride=2)]
                reduction *= 2
        self._note_feature(widths[-1], reduction, len(layers) - 1)
        self.features = PooledStage(*layers)

        self.num_features, self.head_hidden_size = widths[-1], hidden_size
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(drop_rate),
            nn.Linear(widths[-1] * 36, hidden_size),
            nn.ReLU(inplace=True),
            nn.Dropout(drop_rate),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(inplace=True),
            linear(hidden_size, num_classes),
        )

    def _note_feature(self, num_chs: int, reduction: int, layer: int) -> None:
        self.feature_info.append({"num_chs": num_chs, "reduction": reduction, "module": f"features.{layer}"})

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map of images (B, in_chans, H, W): (B, C, 6, 6) at 224 pixels."""
        return self.features(x)

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules of `forward_features` in order."""
        return list(self.features)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of a feature map, or with `pre_logits` what the classifier would see."""
        x = self.avgpool(x).flatten(1)  # (B, 36 C)
        for i, layer in enumerate(self.classifier):
            if not (pre_logits and i == 6):
                x = layer(x)
        return x

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.classifier[6]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last linear layer (0: by nothing).

        Raises:
            ValueError: If another pooling is asked for; the fully connected layers need 6x6 positions.
        """
        if global_pool is not None:
            raise ValueError(f"AlexNet pools to 6x6 positions and takes no global_pool, {global_pool!r}")
        self.num_classes = num_classes
        self.classifier[6] = linear(self.head_hidden_size, num_classes).to(self.features[0].weight)


PAPER = Paper(
    title="ImageNet Classification with Deep Convolutional Neural Networks",
    authors="Alex Krizhevsky, Ilya Sutskever, Geoffrey E. Hinton",
    year=2012,
    url="https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html",
)

FEATURES = {"out_indices": (0, 1, 2, 3), "flatten_sequential": True}
ENDS = {"first_conv": "features.0", "classifier": "classifier.6", "pool_size": (6, 6)}

register(
    AlexNet,
    PAPER,
    {"alexnet": {}},
    reference="torchvision/{name}",
    feature_cfg=FEATURES,
    pretrained_cfg=ENDS,
    top1={"alexnet": 56.522},
)
register(
    AlexNet,
    PAPER,
    {"alexnet_lrn": {"widths": (96, 256, 384, 384, 256), "lrn": True}},
    reference=alexnet_lrn,
    feature_cfg=FEATURES,
    pretrained_cfg=ENDS,
)
