"""Activations as functions of a number: two may agree on all that a network fed them and be others."""

from collections.abc import Iterator, Sequence

import torch

from cnnbench.compare.numbers import TOLERANCE, relative
from cnnbench.compare.operations import PIECES
from cnnbench.compare.steps import Op, Trace

GRID = torch.linspace(-40, 40, 1601, dtype=torch.float64)


def unlike_pieces(runs: Sequence[Trace], regions: Sequence[Sequence[Op]]) -> Iterator[tuple[Op, Op, float]]:
    """Yield the activations of ours and theirs that took and gave the same, but would not elsewhere, and how far.

    Args:
        runs: Ours and theirs, with numbers.
        regions: The operations of each that are looked at.
    """
    mine, other = ([op for op in region if op.name in PIECES and op.again is not None] for region in regions)
    for op, twin in ((op, twin) for op in mine for twin in other if _alike(runs, op, twin)):
        if (apart := _apart(op, twin)) > TOLERANCE:
            yield op, twin, apart


def _alike(runs: Sequence[Trace], op: Op, twin: Op) -> bool:
    mine, other = (
        [run.fingerprints.get(value) for value in (one.inputs[0][1], one.outputs[0])]
        for run, one in zip(runs, (op, twin), strict=True)
    )
    return None not in (*mine, *other) and all(a.same(b) for a, b in zip(mine, other, strict=True))


def _apart(op: Op, twin: Op) -> float:
    """Return how far two functions of a number are apart, relative to what they return."""
    mine, other = (torch.nan_to_num(one.again(GRID.clone())) for one in (op, twin))
    return relative((mine - other).abs().max().item(), other.abs().max().item())
