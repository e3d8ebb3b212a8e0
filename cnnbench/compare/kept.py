"""Dropout and drop path that keep everything: what two networks compute when nothing is dropped."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


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
        name = func._schema.name.partition("::")[2]
        self.draws.count += name in _REPLACED or name in _OTHERS
        replace = _REPLACED.get(name)
        return func(*args, **(kwargs or {})) if replace is None else replace(func, args, kwargs or {})


def _rate_in_place(func: Any, args: tuple, kwargs: dict) -> Tensor:
    rate = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
    return args[0].copy_(rate) if isinstance(rate, Tensor) else args[0].fill_(rate)


def _rates(func: Any, args: tuple, kwargs: dict) -> Tensor:
    return torch.full_like(args[0], args[1]) if len(args) > 1 else args[0].clone()


def _all_of_it(func: Any, args: tuple, kwargs: dict) -> tuple[Tensor, Tensor]:
    return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)


# A mask that holds the probability of keeping is all ones once it is divided by it, as dropout and drop path do.
_REPLACED = {"bernoulli_": _rate_in_place, "bernoulli": _rates, "native_dropout": _all_of_it}
_OTHERS = frozenset(("rand", "rand_like", "uniform_", "randn", "randn_like", "normal_"))


@contextmanager
def everything_kept() -> Iterator[Draws]:
    """Let dropout and drop path pass on what they are given, whatever their rates; yield the number of draws.

    What is made of other random numbers is left to the seed.
    """
    draws = Draws()
    with _Kept(draws):
        yield draws
