"""The mean of a figure over samples, the same for any number of processes."""

from typing import Any

import torch
from torch import nn
from torchmetrics import MeanMetric

SUM_DTYPE = torch.float32 if torch.backends.mps.is_available() else torch.float64  # MPS has no float64


class MeanOfSamples(MeanMetric):
    """Sums in float64, so that the number of processes shows in the last digits of 15 at most."""

    def __init__(self) -> None:
        super().__init__()
        self.set_dtype(SUM_DTYPE)

    def _apply(self, *args: Any, **kwargs: Any) -> nn.Module:
        super()._apply(*args, **kwargs)
        # a Trainer with precision bf16-true casts every module, this one too
        return self if self._dtype_convert else self.set_dtype(SUM_DTYPE)
