"""Whether dropout and drop path draw the same numbers in the same order: without that, training runs part."""

import torch
from torch import Tensor

from cnnbench.compare.numbers import TOLERANCE
from cnnbench.compare.observe import Prepared, error
from cnnbench.compare.trace import Op, trace

DRAWS = frozenset(("bernoulli", "dropout", "rand", "rand_like", "uniform", "randn", "randn_like", "normal"))


def draws_difference(prepared: Prepared, images: Tensor, seed: int) -> str | None:
    """Return where the draws of two training steps under one seed differ; None where they are the same."""
    prepared.rewind()
    outputs, runs = [], []
    for network in prepared.networks:
        torch.manual_seed(seed)
        run = trace(network.train(), images)
        runs.append([op for op in run.ops if op.name in DRAWS])
        outputs.append(run.results[0])
    if error(*outputs) <= TOLERANCE:
        return None
    for ours, theirs in zip(*runs, strict=False):
        if (mine := _said(ours)) != (other := _said(theirs)):
            return f"{ours.module} draws {mine}, where theirs ({theirs.module}) draws {other}"
    if len(runs[0]) != len(runs[1]):
        return f"ours draws {len(runs[0])} times, theirs {len(runs[1])} times"
    return "the same draws are used otherwise"


def _said(op: Op) -> str:
    rate = next((op.settings[name] for name in ("p", "dropout_p") if isinstance(op.settings.get(name), float)), None)
    shape = "x".join(map(str, op.shape))
    return f"{shape} numbers" + (f" at rate {rate:g}" if rate is not None else "")
