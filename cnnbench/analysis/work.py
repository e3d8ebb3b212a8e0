"""What is counted while a network runs: multiply-adds, and the numbers that they make."""

from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry


@dataclass(frozen=True)
class Work:
    """An amount of work.

    Attributes:
        macs: Multiply-adds of convolutions and matrix products.
        activations: Numbers that these put out: "activations" in Radosavovic et al., 2020,
            https://arxiv.org/abs/2003.13678.
    """

    macs: int = 0
    activations: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.macs + other.macs, self.activations + other.activations)

    def __sub__(self, other: "Work") -> "Work":
        return Work(self.macs - other.macs, self.activations - other.activations)


class WorkCounter:
    """Counts the work that is done in its context."""

    def __init__(self) -> None:
        self._flops = FlopCounterMode(display=False)
        self._outputs = FlopCounterMode(display=False, custom_mapping=dict.fromkeys(flop_registry, _put_out))
        self._stack = ExitStack()

    def __enter__(self) -> "WorkCounter":
        self._stack.enter_context(self._outputs)
        self._stack.enter_context(self._flops)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def done(self) -> Work:
        """Return the work so far."""
        return Work(self._flops.get_total_flops() // 2, self._outputs.get_total_flops())


def _put_out(*args: Any, out_shape: torch.Size, **kwargs: Any) -> int:
    return prod(out_shape)
