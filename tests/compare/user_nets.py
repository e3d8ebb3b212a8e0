"""Networks as users write them, with the mistakes that users make."""

import os
import signal

import torch
from torch import nn

not_callable = 3


def small(num_classes: int = 5) -> nn.Module:
    """Takes images of any size."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
    )


def talkative() -> nn.Module:
    """Prints while it is built."""
    print("printed by the network")
    return small()


def seven() -> nn.Module:
    """Has seven classes, whatever is asked of it."""
    return small(7)


def fixed() -> nn.Module:
    """Takes images of 32x32 pixels only, and tells nobody."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))


def no_module() -> str:
    """Returns a name."""
    return "resnet50"


def broken() -> nn.Module:
    """Cannot be built."""
    raise KeyError("depth")


class _Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such head\nand a second line")


class _NoTensor(nn.Module):
    def forward(self, x: torch.Tensor) -> str:
        return "cat"


def raises() -> nn.Module:
    """Raises in forward."""
    return _Raises()


def no_tensor() -> nn.Module:
    """Returns no tensor from forward."""
    return _NoTensor()


def leaves() -> nn.Module:
    """Leaves as a script does."""
    raise SystemExit(3)


def killed() -> nn.Module:
    """Dies as of a lack of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
