"""Random numbers that belong to a sample: the same whatever the batch, the worker, the process or the device.

A generator with state hands out numbers in the order of asking, so that the augmentation of a sample would
depend on who asked before. Here a number is a pure function, splitmix64 (Steele, Lea and Flood 2014, "Fast
Splittable Pseudorandom Number Generators"), of (seed, epoch, index, how many-eth draw), in integers that a
CPU and a GPU compute alike.
"""

from functools import cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Integers = TypeVar("Integers", Tensor, np.ndarray)

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)  # the constants of splitmix64, as signed 64-bit integers
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def sample_keys(seed: int, epoch: int, index: Tensor) -> Tensor:
    """Return the key of each sample in this epoch of this run.

    Args:
        seed: The run's seed.
        epoch: Counted from 0.
        index: int64 (B,), the samples' places in their dataset.

    Returns:
        int64 (B,), from which all random numbers of these samples follow.
    """
    key = torch.zeros_like(index)
    for part in (seed, epoch, index):
        key = _mix((key ^ part) + _GAMMA)
    return key


def bits(keys: Tensor, n: int, first: int = 0) -> Tensor:
    """Return `n` outputs of splitmix64 from each key (B,), from the `first` on, counted from 0: int64 (B, n)."""
    drawn = _bits(keys, n, first)
    return drawn if isinstance(drawn, Tensor) else torch.from_numpy(drawn)


def uniform(keys: Tensor, n: int, first: int = 0) -> Tensor:
    """Return `n` numbers in [0, 1) for each key (B,), from the `first` on: float32 (B, n), multiples of 2^-24."""
    drawn = _shift_right(_bits(keys, n, first), 40)
    if isinstance(drawn, Tensor):
        return drawn.float() * 2.0**-24
    return torch.from_numpy(drawn.astype(np.float32) * np.float32(2.0**-24))


def _bits(keys: Tensor, n: int, first: int) -> Tensor | np.ndarray:
    """Do the work of `bits`: on a CPU by numpy, which begins each of these small operations in half of torch's time."""
    steps = _steps(first, n, keys.device)
    if keys.device.type == "cpu":
        return _mix(keys.numpy()[:, None] + steps.numpy())
    return _mix(keys[:, None] + steps)


@cache
def _steps(first: int, n: int, device: torch.device) -> Tensor:
    return torch.arange(first + 1, first + n + 1, device=device) * _GAMMA


def _mix(x: Integers) -> Integers:
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def _shift_right(x: Integers, n: int) -> Integers:
    return (x >> n) & ((1 << (64 - n)) - 1)  # the shift of signed numbers copies the sign
