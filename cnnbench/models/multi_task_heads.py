"""Heads over one backbone: a class, a box and an embedding an image."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert

from cnnbench.layers.precision import at_least_float32


class ClassificationHead(nn.Linear):
    """One linear layer, as the classifier that the backbone was written for has."""

    def __init__(self, map_channels: int, features: int, num_classes: int) -> None:
        super().__init__(features, num_classes)

    def forward(self, feature_map: Tensor, pooled: Tensor) -> Tensor:
        """Return logits (B, num_classes); arguments as of `BoxHead`."""
        return super().forward(pooled)


class EmbeddingHead(nn.Linear):
    """One linear layer, whose outputs are brought to length 1: their dot product is the cosine of their angle.

    Args:
        map_channels: Not looked at.
        features: Width of the pooled features.
        embedding_dim: Width of an embedding.
    """

    def __init__(self, map_channels: int, features: int, embedding_dim: int = 128) -> None:
        super().__init__(features, embedding_dim)

    def forward(self, feature_map: Tensor, pooled: Tensor) -> Tensor:
        """Return embeddings (B, embedding_dim) of length 1; arguments as of `BoxHead`."""
        return F.normalize(at_least_float32(super().forward(pooled)), dim=1)


class BoxHead(nn.Module):
    """One box an image, from where on a coarse grid the features are, and from all of them pooled.

    Args:
        map_channels: Channels of the feature map.
        features: Width of the pooled features.
        box_channels: What the map is brought to before it is flattened.
        box_grid: Rows and columns that it is brought to, whatever the size of the images.
    """

    def __init__(self, map_channels: int, features: int, box_channels: int = 32, box_grid: int = 4) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(map_channels, box_channels, kernel_size=1)
        self.pool = nn.AdaptiveAvgPool2d(box_grid)
        self.sides = nn.Linear(box_channels * box_grid**2 + features, 4)

    def forward(self, feature_map: Tensor, pooled: Tensor) -> Tensor:
        """Return boxes (B, 4): x1, y1, x2, y2 as parts of the image's width and height.

        Args:
            feature_map: (B, map_channels, h, w).
            pooled: (B, features).
        """
        grid = self.pool(F.relu(self.reduce(feature_map))).flatten(1)
        centre_and_size = at_least_float32(self.sides(torch.cat((grid, pooled), dim=1))).sigmoid()
        return box_convert(centre_and_size, "cxcywh", "xyxy")


class Uncertainty(nn.Module):
    """How uncertain each head's task is (Kendall, Gal, Cipolla 2018, arXiv:1705.07115): a parameter a head.

    Args:
        heads: How many there are.

    Attributes:
        log_variances: log sigma^2 of each head (heads,).
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(heads))

    def forward(self) -> Tensor:
        """Return `log_variances`, whole also where a strategy divides parameters, if it is called in a forward."""
        return self.log_variances + 0


# Name -> class, of the channels of the feature map, the width of the pooled features and arguments of its own.
HEADS: dict[str, Callable[..., nn.Module]] = {
    "classification": ClassificationHead,
    "box": BoxHead,
    "embedding": EmbeddingHead,
}
# Argument -> the head that takes it.
ARGUMENTS = {"embedding_dim": "embedding", "box_channels": "box", "box_grid": "box"}
