"""BatchNorm that no longer learns: for detectors, whose batches are too small for statistics of their own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.layers.norm import BatchNormReLU2d


class FrozenBatchNorm2d(nn.Module):
    """BatchNorm whose statistics, scale and shift are constants, in training too.

    Its entries in the state dict are BatchNorm's but for the counter of batches, which it lacks and passes over.

    Args:
        num_features: Channels.
        eps: Added to the variance.
        act: What follows the norm; None: nothing.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, act: nn.Module | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, H, W)."""
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return x if self.act is None else self.act(x)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


def freeze_batch_norms(network: nn.Module, eps: float | None = None) -> nn.Module:
    """Replace every BatchNorm2d below a network by a frozen one of the same values, and return the network.

    Args:
        network: It is changed.
        eps: Of all of them; None: each keeps its own.
    """
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, _frozen(child, eps))
        else:
            freeze_batch_norms(child, eps)
    return network


def _frozen(norm: nn.BatchNorm2d, eps: float | None) -> FrozenBatchNorm2d:
    act = nn.ReLU(inplace=True) if isinstance(norm, BatchNormReLU2d) else getattr(norm, "act", None)  # timm's: `act`
    frozen = FrozenBatchNorm2d(norm.num_features, norm.eps if eps is None else eps, act).to(norm.running_mean)
    with torch.no_grad():
        for name, constant in frozen.named_buffers(recurse=False):
            constant.copy_(getattr(norm, name))
    return frozen.train(norm.training)
