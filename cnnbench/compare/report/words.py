"""The sentences of the page: the verdict, and what stands behind it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cnnbench.compare.report.values import (
    CONTESTS,
    STATED,
    TRAINED_ALIKE,
    TRAINED_APART,
    error_text,
    faster,
    interval_text,
    memory_text,
    pair_name,
    ratio_text,
    stated_differs,
    status,
)
from cnnbench.compare.result import Comparison, Divergence


@dataclass(frozen=True)
class Problem:
    """A pair that is not equal, in a line.

    Attributes:
        index: Of the pair in the report.
        name: Of the pair.
        text: Where it parts, or why it could not be compared.
        detailed: Whether the page says more about it further down.
    """

    index: int
    name: str
    text: str
    detailed: bool


_OF_ONE = {
    "equal": "are equal",
    "not equal": "are not equal",
    "failed": "could not be compared",
    "not checked": "were measured, not checked for equality",
    TRAINED_ALIKE: "were trained with identical losses",
    TRAINED_APART: "were trained, and their losses differ",
}


def headline(comparisons: Sequence[Comparison]) -> str:
    """Return the verdict: "68 of 68 pairs are equal", "my_net and timm/resnet50 are not equal"."""
    if not comparisons:
        return "Nothing was compared"
    found = [status(comparison) for comparison in comparisons]
    if len(found) == 1:
        pair = f"{comparisons[0].model} and {comparisons[0].reference}"
        return f"{pair} {_OF_ONE[found[0]]}"
    count = Counter(found)
    checked = sum(count[kind] for kind in ("equal", "not equal", "failed"))
    trained = count[TRAINED_ALIKE] + count[TRAINED_APART]
    if not checked + trained:
        return f"{len(found)} pairs were measured, not checked for equality"
    if trained and not (count["equal"] or count["not equal"]):
        parts = [f"{trained} of {len(found)} pairs were trained, {count[TRAINED_ALIKE]} with identical losses"]
    else:
        parts = [f"{count['equal']} of {checked} pairs {_is(count['equal'])} equal"]
    parts += [f"{unequal} {_is(unequal)} not"] if (unequal := count["not equal"]) else []
    parts += [f"{count['failed']} could not be compared"] if count["failed"] else []
    return ", ".join(parts)


def verdict_kind(comparisons: Sequence[Comparison]) -> str:
    """Return "right", "wrong" or "open" (nothing was checked)."""
    found = {status(comparison) for comparison in comparisons}
    if found & {"not equal", "failed"}:
        return "wrong"
    return "right" if found & {"equal", TRAINED_ALIKE} and TRAINED_APART not in found else "open"


def equality_text(comparisons: Sequence[Comparison]) -> str | None:
    """Return what equal means here; None if nothing was checked."""
    tolerances = {comparison.parity.tolerance for comparison in comparisons if comparison.parity}
    if not tolerances:
        return None
    return (
        "Equal: with the same weights both give the same logits, features, gradients and buffers, in float64, in "
        f"evaluation and in training, to a relative error of {error_text(max(tolerances))}."
    )


def problems(comparisons: Sequence[Comparison]) -> list[Problem]:
    """Return the pairs that are not equal or could not be compared, in their order."""
    return [
        Problem(index, pair_name(pair), pair.error or _parting(pair), pair.error is None)
        for index, pair in enumerate(comparisons)
        if status(pair) in ("not equal", "failed")
    ]


def speed_lines(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the verdicts on speed and memory of one pair, or counts over several."""
    if len(comparisons) == 1:
        return _measured(comparisons[0])
    lines = []
    for name, title in CONTESTS.items():
        contests = [contest for pair in comparisons if pair.speed and (contest := getattr(pair.speed, name))]
        if contests:
            count = Counter(map(faster, contests))
            lines.append(
                f"{title}: ours faster in {count['ours']}, theirs faster in {count['theirs']}, no difference that this "
                f"machine resolves in {count[None]}."
            )
    return lines


def draws_line(comparisons: Sequence[Comparison]) -> str | None:
    """Return which pairs draw other random numbers under one seed, and so train apart; None where none does."""
    apart = [pair_name(pair) for pair in comparisons if pair.parity and pair.parity.same_random_draws is False]
    return f"Dropout or drop path draws other numbers under one seed: {', '.join(apart)}." if apart else None


def note_lines(comparisons: Sequence[Comparison]) -> list[str]:
    """Return what is worth knowing of pairs and does not count, with their names where there are several."""
    several = len(comparisons) > 1
    notes = [(pair, note) for pair in comparisons if pair.parity for note in pair.parity.notes]
    return [f"{pair_name(pair)}: {note}." if several else f"Note: {note}." for pair, note in notes]


def table_caption(comparisons: Sequence[Comparison]) -> str:
    """Return how the table is read, as far as it has such columns."""
    parts = [f"{len(comparisons)} pair{'s' if len(comparisons) > 1 else ''}, ours against theirs."]
    above = ["in speed ours is faster"] if any(pair.speed for pair in comparisons) else []
    above += ["in memory it needs more"] if any(pair.memory for pair in comparisons) else []
    parts += [f"Above 1 {', above 1 '.join(above)}."] if above else []
    if any(stated_differs(pair, name) for pair in comparisons for name in STATED):
        parts.append("* as its authors state it; differs from what was measured by over 2 %.")
    return " ".join([*parts, "Click a head to sort by it."])


def _measured(pair: Comparison) -> list[str]:
    lines = [
        f"{title}: {ratio_text(contest.speedup.median)} {interval_text(contest.speedup)}, control "
        f"{interval_text(contest.control)}: {contest.verdict}"
        for name, title in CONTESTS.items()
        if pair.speed and (contest := getattr(pair.speed, name))
    ]
    if memory := pair.memory:
        ours, theirs, unit = memory_text(memory)
        lines.append(f"Peak memory of a train step: {ratio_text(memory.ratio)}, {ours} against {theirs} {unit}")
    return lines


def place_text(divergence: Divergence) -> str:
    """Return the module where two networks part, with theirs if it is called otherwise."""
    same = divergence.module == divergence.reference_module
    return divergence.module if same else f"{divergence.module} (theirs: {divergence.reference_module})"


def errors_text(divergence: Divergence) -> str:
    """Return how far inputs and outputs are apart at the place where two networks part."""
    outputs = f"differ by {error_text(divergence.output_error)}"
    if math.isinf(divergence.output_error):
        outputs = "have other shapes, or are not finite"
    inputs = f"agree to {error_text(divergence.input_error)}" if divergence.input_error < 1e-9 else "differ already"
    return f"inputs {inputs}, outputs {outputs}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _parting(comparison: Comparison) -> str:
    parity = comparison.parity
    if parity.first_divergence is not None:
        cause = parity.first_divergence.cause
        return f"{place_text(parity.first_divergence)}{f': {cause}' if cause else ''}"
    if parity.weights.differences:
        return parity.weights.differences[0]
    return f"errors up to {error_text(parity.max_relative_error.worst())}"
