"""Precision of what is not to be rounded."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return a tensor in its own precision, or in float32 where that is higher."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
