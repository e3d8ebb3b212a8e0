"""Gradients held within bounds: by their norm, by value, or adaptively."""

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from timm.utils import adaptive_clip_grad
from torch import nn

MODES = ("norm", "value", "agc")


def clip(task: LightningModule, network: nn.Module, optimizer: torch.optim.Optimizer, limit: float, mode: str) -> None:
    """Clip the gradients of `network`, which Lightning has unscaled.

    Args:
        task: Clips by norm and value as the Trainer's strategy and precision want it.
        network: What is trained.
        optimizer: What trains it.
        limit: With `norm` of all gradients together, with `value` of each number, with `agc` the largest ratio of
            norms of gradient and weights, unit by unit (Brock et al. 2021, arXiv:2102.06171), which spares the
            classifier.
        mode: One of `MODES`.
    """
    if mode != "agc":
        task.clip_gradients(optimizer, limit, mode)
        return
    classifier = {id(parameter) for layer in _classifier(network) for parameter in layer.parameters()}
    adaptive_clip_grad([p for p in network.parameters() if id(p) not in classifier], limit)


def _classifier(network: nn.Module) -> Sequence[nn.Module]:
    """Return the last linear layer, or both of a distilled network; torchvision's networks do not tell it."""
    if hasattr(network, "get_classifier"):
        found = network.get_classifier()
        return found if isinstance(found, (tuple, list)) else (found,)
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1:]
