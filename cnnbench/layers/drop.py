"""Stochastic depth: Huang, Sun, Liu, Sedra, Weinberger, 2016, https://arxiv.org/abs/1603.09382."""

import torch
from torch import Tensor, nn


@torch.fx.wrap  # one node of a traced graph: tracing does not know the rank of x, on which the draw depends
def drop_path(x: Tensor, drop_prob: float, training: bool) -> Tensor:
    """Zero whole samples of a residual branch with `drop_prob` and scale the others to keep the mean.

    One number a sample is drawn, in the order and shape of timm, so that one seed gives one training run.

    Args:
        x: A branch's output, (B, ...).
        drop_prob: Chance of a sample to lose the branch.
        training: Whether to drop at all.
    """
    if drop_prob == 0.0 or not training:
        return x
    keep_prob = 1.0 - drop_prob
    mask = x.new_empty([x.shape[0]] + [1] * (x.ndim - 1)).bernoulli_(keep_prob)
    if keep_prob > 0.0:
        mask.div_(keep_prob)
    return x * mask


class DropPath(nn.Module):
    """`drop_path` as a module: the residual branch in front of the addition goes through it."""

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of x while training."""
        return drop_path(x, self.drop_prob, self.training)

    def extra_repr(self) -> str:
        """Show the rate in the module's printout."""
        return f"drop_prob={self.drop_prob:.3f}"
