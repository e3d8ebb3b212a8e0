"""Global pooling between the features and the classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POOL_TYPES = ("avg", "max", "avgmax", "catavgmax", "")


class GlobalPool(nn.Module):
    """Pool a feature map (B, C, H, W) of any size to one position.

    Args:
        pool_type: "avg", "max", "avgmax" (their mean), "catavgmax" (both, twice the channels), or "" for no
            pooling.
        flatten: Whether to return (B, C) instead of (B, C, 1, 1); without pooling the map is never flattened.

    Raises:
        ValueError: If there is no such pooling.
    """

    def __init__(self, pool_type: str = "avg", flatten: bool = True) -> None:
        super().__init__()
        if pool_type not in POOL_TYPES:
            raise ValueError(f"unknown global_pool {pool_type!r}; there is {', '.join(map(repr, POOL_TYPES))}")
        self.pool_type = pool_type
        self.flatten = flatten and pool_type != ""

    def forward(self, x: Tensor) -> Tensor:
        """Pool x."""
        if self.pool_type == "avg":
            x = F.adaptive_avg_pool2d(x, 1)
        elif self.pool_type == "max":
            x = F.adaptive_max_pool2d(x, 1)
        elif self.pool_type == "avgmax":
            x = 0.5 * (F.adaptive_avg_pool2d(x, 1) + F.adaptive_max_pool2d(x, 1))
        elif self.pool_type == "catavgmax":
            x = torch.cat((F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)), 1)
        return x.flatten(1) if self.flatten else x

    def feat_mult(self) -> int:
        """How many times more channels come out than go in."""
        return 2 if self.pool_type == "catavgmax" else 1

    def extra_repr(self) -> str:
        """Show the kind in the module's printout."""
        return f"pool_type={self.pool_type!r}, flatten={self.flatten}"
