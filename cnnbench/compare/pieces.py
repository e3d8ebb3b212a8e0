"""Activations as functions of a number: two may agree on all that a network fed them and be others."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from cnnbench.compare.numbers import TOLERANCE, relative
from cnnbench.compare.operations import ELEMENTWISE, PIECES
from cnnbench.compare.steps import Op, Trace

GRID = torch.linspace(-40, 40, 1601, dtype=torch.float64)


def unlike_pieces(runs: Sequence[Trace], regions: Sequence[Sequence[Op]]) -> Iterator[tuple[Op, Op, float]]:
    """Yield operations of ours and theirs that made the same of the same numbers, but would not of others, and how far.

    What is compared is what one operation or several in a row make of a number, from -40 to 40.

    Args:
        runs: Ours and theirs, with numbers.
        regions: The operations of each that are looked at.
    """
    ops = [[op for op in region if op.name in ELEMENTWISE and op.again is not None] for region in regions]
    if not all(any(op.name in PIECES for op in side) for side in ops):
        return
    roots = [list(dict.fromkeys(value for op in side for _, value in op.inputs)) for side in ops]
    alike = [(a, b) for a in roots[0] for b in roots[1] if _alike(runs, a, b)]
    mine, others = (_reached(side, dict.fromkeys(pair[i] for pair in alike)) for i, side in enumerate(ops))
    for op, curves in mine:
        for twin, other_curves in others:
            made_alike = _alike(runs, op.outputs[0], twin.outputs[0])
            if made_alike and (apart := _farthest(curves, other_curves, alike)) > TOLERANCE:
                yield op, twin, apart


def _reached(ops: Sequence[Op], roots: Iterable[int]) -> list[tuple[Op, dict[int, Tensor]]]:
    """Return the operations that some root leads to, and what each makes of the grid put in for each such root."""
    reached: dict[int, tuple[Op, dict[int, Tensor]]] = {}
    for root in roots:
        for op, curve in _curves(ops, root):
            reached.setdefault(op.index, (op, {}))[1][root] = curve
    return list(reached.values())


def _farthest(curves: dict[int, Tensor], others: dict[int, Tensor], alike: Sequence[tuple[int, int]]) -> float:
    """Return how far a curve is at most from the nearest one of the other side whose root is the same value.

    A value and what a bound that it never met made of it are the same, so that a root may have several counterparts.
    """
    nearest: dict[tuple[int, int], float] = {}
    for a, b in alike:
        if a in curves and b in others:
            apart = _apart(curves[a], others[b])
            for key in ((0, a), (1, b)):
                nearest[key] = min(apart, nearest.get(key, math.inf))
    return max(nearest.values(), default=0.0)


def _curves(ops: Sequence[Op], root: int) -> list[tuple[Op, Tensor]]:
    """Return what operations make of each number of the grid, put in for a value, as far as an activation has part."""
    curves, active, found = {root: GRID}, set(), []
    for op in ops:
        taken = [value for _, value in op.inputs]
        if all(value in curves for value in taken) and op.outputs:
            curves[op.outputs[0]] = torch.nan_to_num(op.again(*(curves[value].clone() for value in taken)))
            if op.name in PIECES or active.intersection(taken):
                active.add(op.outputs[0])
                found.append((op, curves[op.outputs[0]]))
    return found


def _alike(runs: Sequence[Trace], value: int, other: int) -> bool:
    prints = runs[0].fingerprints.get(value), runs[1].fingerprints.get(other)
    return None not in prints and prints[0].same(prints[1])


def _apart(mine: Tensor, other: Tensor) -> float:
    return relative((mine - other).abs().max().item(), other.abs().max().item())
