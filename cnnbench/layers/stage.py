"""Blocks in a row."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Stage(nn.Sequential):
    """Blocks in a row, whose activations can be computed again in the backward pass instead of being kept.

    As in every checkpointed network, a BatchNorm inside then updates its running statistics twice a step.
    """

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__(*blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks."""
        for block in self:
            if self.grad_checkpointing and not torch.jit.is_scripting():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


class PooledStage(Stage):
    """Single layers and max pools in a row, computed again from one max pool to the next.

    Not layer by layer: a rectification in place changes what its layer would start from.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers."""
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return self._recomputed(x)
        for layer in self:
            x = layer(x)
        return x

    @torch.jit.unused
    def _recomputed(self, x: Tensor) -> Tensor:
        row: list[nn.Module] = []
        for layer in self:
            row.append(layer)
            if isinstance(layer, nn.MaxPool2d):
                x, row = checkpoint(nn.Sequential(*row), x, use_reentrant=False), []
        return nn.Sequential(*row)(x)
