"""What the parts of the report say alike: how a value is found, what it is called, how a number is written."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cnnbench.compare.published import differs
from cnnbench.compare.result import Comparison, Contest, Estimate, Memory
from cnnbench.compare.statistics import resolution

CONTESTS = {"forward": "Forward", "train_step": "Train step"}
"""The attributes of `Speed` that are timed on every pair, and their titles."""
STATED = ("parameters", "macs")
"""What papers state that is measured, too."""
TRAINED_ALIKE, TRAINED_APART = "trained, losses identical", "trained, losses differ"


def look_up(comparison: Comparison, path: str) -> Any:
    """Return the value at a path such as "speed.forward.images_per_second.0"; None where a part is missing."""
    value: Any = comparison
    for name in path.split("."):
        if value is None:
            return None
        value = value[int(name)] if name.isdigit() else getattr(value, name)
    return value


def status(comparison: Comparison) -> str:
    """Return "equal", "not equal" or "failed"; where parity was not asked for how both trained, or "not checked"."""
    if comparison.error is not None:
        return "failed"
    if comparison.parity is not None:
        return "equal" if comparison.parity.passed else "not equal"
    if comparison.training is not None:
        return TRAINED_ALIKE if comparison.training.identical else TRAINED_APART
    return "not checked"


def stated_differs(comparison: Comparison, name: str) -> bool | None:
    """Tell whether published "parameters" or "macs" differ from those measured by over 2 %; None: one is unknown."""
    return differs(look_up(comparison, f"published.{name}"), look_up(comparison, f"cost.ours.{name}"))


def stated_text(comparison: Comparison) -> str | None:
    """Return what is published, such as "71.8, 3.4M*, 300M", with a star where it differs from what was measured."""
    if comparison.published is None:
        return None
    top1 = comparison.published.top1
    parts = [] if top1 is None else [f"{top1:g}"]
    for name in STATED:
        stated = getattr(comparison.published, name)
        if stated is not None:
            parts.append(short_text(stated) + ("*" if stated_differs(comparison, name) else ""))
    return ", ".join(parts)


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


def memory_text(memory: Memory) -> tuple[str, str, str]:
    """Return ours, theirs and their unit: three digits, or as many more as their ratio shows to be different."""
    largest = max(memory.ours, memory.theirs)
    unit, name = (2**30, "GiB") if largest >= 2**30 else (2**20, "MiB")
    decimals = max(0, 2 - int(math.log10(max(largest / unit, 1))))
    while True:
        ours, theirs = (f"{size / unit:.{decimals}f}" for size in (memory.ours, memory.theirs))
        if ours != theirs or ratio_text(memory.ratio) == ratio_text(1):
            return ours, theirs, name
        decimals += 1


def giga_text(macs: int) -> str:
    """Return multiply-adds in billions: "4.089", "0.00042"."""
    return f"{macs / 1e9:.3f}" if macs >= 5e6 else f"{macs / 1e9:.5f}"


def short_text(number: float) -> str:
    """Return a rounded number as "4.1G", "25M", "60K"."""
    unit, letter = next((unit, letter) for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")) if number >= unit)
    return f"{number / unit:g}{letter}"


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[head + 1 - longest :]}"
