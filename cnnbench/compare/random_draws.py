"""Whether dropout and drop path draw the same numbers in the same order: without that, training runs part."""

from itertools import zip_longest

from torch import Tensor

from cnnbench.compare.numbers import TOLERANCE
from cnnbench.compare.outputs import error
from cnnbench.compare.prepare import Prepared
from cnnbench.compare.seeds import seed_everything
from cnnbench.compare.steps import Draw
from cnnbench.compare.trace import trace


def draws_difference(prepared: Prepared, images: Tensor, seed: int) -> str | None:
    """Return where the draws of two training steps under one seed differ; None where they are the same.

    Args:
        prepared: Two networks that are equal but for what they draw.
        images: (B, C, H, W).
        seed: Of the draws.
    """
    prepared.rewind()
    outputs, draws = [], []
    for network in prepared.networks:
        seed_everything(seed)
        run = trace(network.train(), images)
        outputs.append(run.results)
        draws.append(run.draws)
    if all(error(*pair) <= TOLERANCE for pair in zip(*outputs, strict=False)):
        return None
    for ours, theirs in zip_longest(*draws):
        if _numbers(ours) != _numbers(theirs):
            return _said(ours, theirs)
    return "the same numbers are drawn, but used otherwise"


def _numbers(draw: Draw | None) -> tuple | None:
    return None if draw is None else (draw.name, draw.shape, draw.rate)


def _said(ours: Draw | None, theirs: Draw | None) -> str:
    if theirs is None:
        return f"{ours.module} draws {_described(ours)}, where theirs draws no more"
    if ours is None:
        return f"theirs ({theirs.module}) draws {_described(theirs)}, where ours draws no more"
    return f"{ours.module} draws {_described(ours)}, where theirs ({theirs.module}) draws {_described(theirs)}"


def _described(draw: Draw) -> str:
    shape = "x".join(map(str, draw.shape)) or "1"
    if draw.rate is None:
        return f"{shape} numbers ({draw.name})"
    kept = 1 - draw.rate if draw.name == "dropout" else draw.rate
    return f"{shape} numbers of which it keeps {kept:.4g}"
