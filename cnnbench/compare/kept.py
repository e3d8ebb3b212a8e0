"""Dropout and drop path that keep everything: what two networks compute when nothing is dropped."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench.compare.operations import DRAWS, name_of


@dataclass
class Draws:
    """What a network drew.

    Attributes:
        count: How often it drew random numbers.
    """

    count: int = 0


class _Kept(TorchDispatchMode):
    def __init__(self, draws: Draws) -> None:
        super().__init__()
        self.draws = draws

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.draws.count += name_of(func) in DRAWS
        return keeping(func, args, kwargs or {})


def keeping(func: Any, args: tuple, kwargs: dict) -> Any:
    """Return what one of torch's operators gives where nothing is dropped."""
    replace = _REPLACED.get(func._schema.name.partition("::")[2])
    return func(*args, **kwargs) if replace is None else replace(func, args, kwargs)


def _rate_in_place(func: Any, args: tuple, kwargs: dict) -> Tensor:
    rate = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
    return args[0].copy_(rate) if isinstance(rate, Tensor) else args[0].fill_(rate)


def _rates(func: Any, args: tuple, kwargs: dict) -> Tensor:
    return torch.full_like(args[0], args[1]) if len(args) > 1 else args[0].clone()


def _all_of_it(func: Any, args: tuple, kwargs: dict) -> tuple[Tensor, Tensor]:
    return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)


def _hard_slope(func: Any, args: tuple, kwargs: dict) -> Tensor:
    """Torch's own multiplies by a sixth that is rounded to float32, whatever the precision."""
    slope, x = args
    return torch.where((x > -3) & (x < 3), slope / 6, torch.zeros_like(slope))


# A mask that holds the probability of keeping is all ones once it is divided by it, as dropout and drop path do.
_REPLACED = {
    "bernoulli_": _rate_in_place,
    "bernoulli": _rates,
    "native_dropout": _all_of_it,
    "hardsigmoid_backward": _hard_slope,
}


@contextmanager
def everything_kept() -> Iterator[Draws]:
    """Let dropout and drop path pass on what they are given, whatever their rates; yield the number of draws.

    What is made of other random numbers is left to the seed.
    """
    draws = Draws()
    with _Kept(draws):
        yield draws
