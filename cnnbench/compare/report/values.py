"""What the parts of the report say alike: how a value is found, what it is called, how a number is written."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cnnbench.compare.result import Comparison, Contest, Estimate
from cnnbench.compare.statistics import resolution

CONTESTS = {"forward": "Forward", "train_step": "Train step"}
"""The attributes of `Speed` that are timed on every pair, and their titles."""


def look_up(comparison: Comparison, path: str) -> Any:
    """Return the value at a path such as "speed.forward.images_per_second.0"; None where a part is missing."""
    value: Any = comparison
    for name in path.split("."):
        if value is None:
            return None
        value = value[int(name)] if name.isdigit() else getattr(value, name)
    return value


def status(comparison: Comparison) -> str:
    """Return "equal", "not equal", "not checked" (parity was not asked for) or "failed"."""
    if comparison.error is not None:
        return "failed"
    if comparison.parity is None:
        return "not checked"
    return "equal" if comparison.parity.passed else "not equal"


def resolved_band(contest: Contest) -> tuple[float, float]:
    """Return the ratios between which this machine tells no difference."""
    highest = 1 + resolution(contest.control)
    return 1 / highest, highest


def faster(contest: Contest) -> str | None:
    """Return "ours" or "theirs", as the verdict has it: the whole interval lies beyond the band; otherwise None."""
    low, high = resolved_band(contest)
    if contest.speedup.low > high:
        return "ours"
    return "theirs" if contest.speedup.high < low else None


def pair_name(comparison: Comparison) -> str:
    """Return "resnet50 against timm/resnet50"."""
    return f"{comparison.model} against {comparison.reference}"


def short_labels(comparisons: Sequence[Comparison], longest: int = 30) -> list[str]:
    """Return a label for each pair in a plot: the model, with its reference where another pair has the same model.

    Args:
        comparisons: The pairs.
        longest: Characters; what is longer loses its middle.
    """
    count = Counter(comparison.model for comparison in comparisons)
    labels = [pair.model if count[pair.model] == 1 else f"{pair.model} – {pair.reference}" for pair in comparisons]
    return [_shortened(printable(label), longest) for label in labels]


def printable(text: str) -> str:
    """Return the text with a replacement character for whatever cannot be drawn, such as a line break."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def error_text(value: float) -> str:
    """Return "0", "3e-16" or "0.38"."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.2g}" if abs(value) >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def ratio_text(value: float) -> str:
    """Return "1.01×"."""
    return f"{value:.2f}×"


def interval_text(estimate: Estimate) -> str:
    """Return "[0.98, 1.03]"."""
    return f"[{estimate.low:.2f}, {estimate.high:.2f}]"


def size_text(size: float) -> str:
    """Return bytes as "1.92 GiB" or "512 MiB"."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[head + 1 - longest :]}"
