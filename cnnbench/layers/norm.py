"""Normalisation of feature maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of a feature map (B, C, H, W), each position by itself."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x; a channels_last input stays channels_last, since the permutations are views."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


@torch.fx.wrap  # one node of a traced graph: tracing would count the batch itself, once, instead of noting the count
def batch_norm_relu(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    num_batches_tracked: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise each channel of x and rectify it; while training, update the running statistics."""
    if training and num_batches_tracked is not None:
        num_batches_tracked.add_(1)
    x = F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    return F.relu(x, inplace=True)


class BatchNormReLU2d(nn.BatchNorm2d):
    """BatchNorm and ReLU as one module, for networks whose norms come first and whose feature maps end on a ReLU.

    Its entries in the state dict are BatchNorm's. `torch.nn.SyncBatchNorm.convert_sync_batchnorm` would replace
    it by a norm alone: it is not for networks that are converted so.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the rectified norm of x (B, C, H, W)."""
        return batch_norm_relu(
            x,
            self.running_mean,
            self.running_var,
            self.num_batches_tracked,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )
