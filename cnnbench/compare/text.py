"""Comparisons as text, as the terminal shows them: a block a pair, and a line a model where there are several."""

from collections.abc import Iterator, Sequence
from statistics import median
from textwrap import wrap
from typing import Any

from cnnbench.compare.architectures import architectures
from cnnbench.compare.failure import why_not_equal
from cnnbench.compare.report.values import error_text, giga_text, interval_text, memory_text, status
from cnnbench.compare.result import (
    Comparison,
    Contest,
    Cost,
    Estimate,
    Memory,
    MetricSummary,
    Parity,
    Served,
    Speed,
    Training,
)

WIDTH = 100  # columns, at most
VERDICT_END = 88  # the column where verdicts end
LABEL = 12  # columns of what a line is about

Line = tuple[str, str]  # what it is about, and what is said of it


def report_text(comparisons: Sequence[Comparison], width: int = WIDTH) -> str:
    """Return the text on all pairs, no line longer than `width`."""
    blocks = ["\n".join(block(comparison, width)) for comparison in comparisons]
    table = [architectures(comparisons, width)] if len(comparisons) > 1 else []
    return "\n\n".join([*blocks, *table])


def block(comparison: Comparison, width: int = WIDTH) -> list[str]:
    """Return the lines on one pair, none longer than `width`."""
    lines = [_head(comparison, width)]
    for about, text in _lines(comparison):
        indent = 2 + max(LABEL, len(about) + 2)
        first, *rest = wrap(text, width - indent, break_on_hyphens=False) or [""]
        lines.append(f"  {about:<{indent - 2}}{first}".rstrip())
        lines += [f"{'':{indent}}{line}" for line in rest]
    return lines


def title(comparison: Comparison) -> str:
    """Return who is compared with whom, such as "resnet50  ours against timm"."""
    source, name = _parts(comparison.model)
    their_source, their_name = _parts(comparison.reference)
    if not comparison.reference:
        return f"{name}  {source}"
    theirs = their_source if their_name == name and their_source != "ours" else comparison.reference
    return f"{name}  {source} against {theirs.removesuffix(f' as {name}')}"


def _parts(label: str) -> tuple[str, str]:
    """Return who wrote a network and its name: ours and resnet50, timm and resnet50, my_nets:build and build."""
    if ":" in label:
        return label, label.rpartition(":")[2]
    source, _, name = label.rpartition("/")
    return "ours" if source in ("", "cnnbench") else source, name


def _head(comparison: Comparison, width: int) -> str:
    word = status(comparison).upper()
    left = title(comparison)
    if len(left) > width - len(word) - 2:
        left = f"{left[: width - len(word) - 3]}…"
    room = max(min(VERDICT_END, width) - len(word), len(left) + 2)
    return f"{left:<{room}}{word}"


def _lines(comparison: Comparison) -> Iterator[Line]:
    if comparison.error is not None:
        yield "error", comparison.error
    if comparison.parity is not None:
        yield from _parity(comparison.parity)
    if comparison.cost is not None:
        yield from _cost(comparison.cost)
    if comparison.speed is not None:
        yield from _speed(comparison.speed)
    if comparison.memory is not None:
        yield from _memory(comparison.memory)
    if comparison.training is not None:
        yield from _training(comparison.training)


def _parity(parity: Parity) -> Iterator[Line]:
    if not parity.passed:
        about = "first divergence" if parity.first_divergence else "differences"
        for line in why_not_equal(parity):
            yield about, line
            about = " " * len(about)
    weights = parity.weights
    others = "" if weights.ours == weights.theirs else f" (theirs has {weights.theirs})"
    how = weights.method if weights.method == "same keys" else f"by {weights.method}"
    yield "weights", f"{weights.matched} of {weights.ours} tensors{others}, {how}"
    known = {name: error for name, error in vars(parity.max_relative_error).items() if error is not None}
    if known:
        errors = " · ".join(f"{name} {error_text(error)}" for name, error in known.items())
        yield "float64", f"{errors:<58} (worst relative error)"
    for note in parity.notes:
        yield "note", note
    if parity.same_random_draws is False:
        yield "random", parity.draws_difference or "dropout or drop path draws other numbers than theirs"


def _cost(cost: Cost) -> Iterator[Line]:
    ours, theirs = cost.ours, cost.theirs
    parameters = _pair(ours.parameters, theirs.parameters, "{:,}")
    yield "cost", f"{parameters} parameters · {_pair(giga_text(ours.macs), giga_text(theirs.macs))} GMACs"
    if ours.macs == theirs.macs and ours.activations != theirs.activations:
        yield "", f"{_pair(ours.activations, theirs.activations, '{:,}')} activations"


def _pair(ours: Any, theirs: Any, form: str = "{}") -> str:
    return f"{form.format(ours)} {'=' if ours == theirs else '≠'} {form.format(theirs)}"


def _speed(speed: Speed) -> Iterator[Line]:
    contests = {"forward": speed.forward, "train step": speed.train_step, "served": speed.served_contest}
    for about, contest in contests.items():
        if contest is not None:
            yield about, _contest(contest)
    for name, served in zip(("ours", "theirs"), speed.served or (), strict=False):
        yield "", _served(name, served)
    yield "images", f"{speed.batch_size} at a time{_of_size(speed.image_size)}"


def _of_size(pixels: int | None) -> str:
    return "" if pixels is None else f", of {pixels}x{pixels} pixels"


def _contest(contest: Contest) -> str:
    return f"{_ratio(contest.speedup)}   control {interval_text(contest.control)}   {contest.verdict}"


def _served(name: str, served: Served) -> str:
    gain = f"{served.images_per_second:,.1f} images/s, {_ratio(served.gain)} of it as it is"
    return f"{name} by {served.options}: {gain}, error {error_text(served.relative_error)}"


def _ratio(estimate: Estimate) -> str:
    return f"{estimate.median:.2f}x {interval_text(estimate)}"


def _memory(memory: Memory) -> Iterator[Line]:
    ours, theirs, unit = memory_text(memory)
    yield "memory", f"{memory.ratio:.2f}x ({ours} {'=' if ours == theirs else 'against'} {theirs} {unit})"


def _training(training: Training) -> Iterator[Line]:
    yield "training", training.verdict
    single = len(training.duels) == 1  # of which no deviation is known
    if training.metrics:
        yield "", f"ours · theirs · difference{'' if single else ', over all seeds'}:"
    width = max((len(metric.name) for metric in training.metrics), default=0)
    for metric in training.metrics:
        yield "", f"{metric.name:<{width}}  {_metric(metric, single)}"
    if training.duels:
        times = zip(*(duel.seconds_per_step for duel in training.duels), strict=True)
        yield "", "seconds a step {:.3f} · {:.3f}".format(*map(median, times))


def _metric(metric: MetricSummary, single: bool) -> str:
    ours, theirs, difference = metric.ours, metric.theirs, metric.difference
    if single:
        return f"{ours[0]:.4f} · {theirs[0]:.4f} · {difference.median:+.4f}"
    interval = f"[{difference.low:+.4f}, {difference.high:+.4f}]"
    return "{:.4f} ± {:.4f} · {:.4f} ± {:.4f}".format(*ours, *theirs) + f" · {difference.median:+.4f} {interval}"
