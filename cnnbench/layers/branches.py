"""Branches side by side."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Branches(nn.Module):
    """Branches on one input, whose outputs are concatenated; a subclass writes `_branches`.

    Their activations can be computed again in the backward pass instead of being kept, as in `Stage`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.grad_checkpointing = False

    def _branches(self, x: Tensor) -> list[Tensor]:
        """Return what each branch makes of x, maps of one size."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches' outputs one after the other in the channels."""
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return self._recomputed(x)
        return torch.cat(self._branches(x), 1)

    @torch.jit.unused
    def _recomputed(self, x: Tensor) -> Tensor:
        return torch.cat(checkpoint(self._branches, x, use_reentrant=False), 1)
