"""Plots over all pairs: ratios of time with their intervals, and cost against published accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from cnnbench.compare.report.labels import place_labels
from cnnbench.compare.report.svg import FAINT, INK, MUTED, OURS, THEIRS, plotting, to_svg
from cnnbench.compare.report.values import CONTESTS, faster, interval_text, ratio_text, resolved_band, short_labels
from cnnbench.compare.result import Comparison, Contest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NARROW, WIDE = 4.6, 6.4  # inches: two narrow ones stand side by side, and one fills a phone
_ROW = 0.205  # inches
ROWS = 34  # of a plot: they fill a printed page
_MARKERS = {"ours": (OURS, ">"), "theirs": (THEIRS, "<"), None: (INK, "o")}
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 1, 1.1, 1.25, 2, 5, 10, 20, 50, 100)
_NEAR_ONE = (0.9, 1.1)  # ticks that a wide axis has no room for


@dataclass(frozen=True)
class Plot:
    """A drawn figure and its title."""

    svg: Markup
    title: str


def ratio_plots(comparisons: Sequence[Comparison]) -> list[Plot]:
    """Return plots of speedups of the forward pass and of the train step, where they were timed, `ROWS` pairs each."""
    plots = []
    for name, title in CONTESTS.items():
        timed = [(pair, contest) for pair in comparisons if pair.speed and (contest := getattr(pair.speed, name))]
        labels = short_labels([pair for pair, _ in timed])
        contests = [contest for _, contest in timed]
        for first in range(0, len(timed), ROWS):
            rows = slice(first, first + ROWS)
            svg = _ratios(f"{name}-{first}", title, labels[rows], contests[rows], _ratio_limits(contests))
            plots.append((first, Plot(svg, title)))
    return [plot for _, plot in sorted(plots, key=lambda item: item[0])]  # both of the same pairs side by side


def _ratios(
    name: str, title: str, labels: Sequence[str], contests: Sequence[Contest], limits: tuple[float, float]
) -> Markup:
    from matplotlib.figure import Figure

    with plotting(name):
        figure = Figure(figsize=(NARROW, 0.6 + _ROW * len(labels)), layout="constrained")
        axes = figure.add_subplot()
        bands = [resolved_band(contest) for contest in contests]
        axes.barh(range(len(bands)), [high - low for low, high in bands], 0.72, [low for low, _ in bands], color=FAINT)
        tooltips = {}
        for side, (color, marker) in _MARKERS.items():
            if rows := [row for row, contest in enumerate(contests) if faster(contest) == side]:
                found = [contests[row].speedup for row in rows]
                axes.hlines(rows, [each.low for each in found], [each.high for each in found], color, linewidth=1.4)
                medians = [each.median for each in found]
                axes.plot(medians, rows, marker, color=color, markersize=4.5, gid=str(side))
                tooltips[str(side)] = [_ratio_tooltip(labels[row], contests[row]) for row in rows]
        _ratio_axis(axes, *limits)
        axes.set_yticks(range(len(labels)), labels, color=INK)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("their time over ours: above 1 ours is faster")
        label = f"{title}: their time over ours for {len(labels)} pairs, with intervals"
        return to_svg(figure, name, label, tooltips)


def _ratio_limits(contests: Sequence[Contest]) -> tuple[float, float]:
    drawn = [(contest.speedup.low, contest.speedup.high) for contest in contests] + [*map(resolved_band, contests)]
    low, high = min(low for low, _ in drawn), max(high for _, high in drawn)
    return min(0.88, low) / 1.02, max(1.14, high) * 1.02


def _ratio_axis(axes: "Axes", low: float, high: float) -> None:
    ticks = [tick for tick in _TICKS if low <= tick <= high and (high / low < 2.5 or tick not in _NEAR_ONE)]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.axvline(1, color=MUTED, linewidth=0.9, zorder=0.9)


def _ratio_tooltip(label: str, contest: Contest) -> str:
    speedup, control = contest.speedup, contest.control
    return (
        f"{label}: {ratio_text(speedup.median)} {interval_text(speedup)}, control {interval_text(control)}. "
        f"{contest.verdict}"
    )


def accuracy_plots(comparisons: Sequence[Comparison]) -> list[Plot]:
    """Return plots of published accuracy over multiply-adds and over parameters, if two or more pairs have both."""
    known = [pair for pair in comparisons if pair.cost and pair.top1 is not None]
    if len(known) < 2:
        return []
    labels, top1 = short_labels(known), [pair.top1 for pair in known]
    costs = {
        "GMACs": [pair.cost.ours.macs / 1e9 for pair in known],
        "million parameters": [pair.cost.ours.parameters / 1e6 for pair in known],
    }
    return [
        Plot(_accuracy(f"accuracy-{index}", unit, labels, values, top1), f"Published top-1 over {unit}")
        for index, (unit, values) in enumerate(costs.items())
    ]


def _accuracy(name: str, unit: str, labels: Sequence[str], values: Sequence[float], top1: Sequence[float]) -> Markup:
    from matplotlib.figure import Figure

    with plotting(name):
        figure = Figure(figsize=(WIDE, 5.2))
        axes = figure.add_subplot()
        figure.subplots_adjust(left=0.1, right=0.98, top=0.98, bottom=0.09)
        _cost_axis(axes, values)
        _margin(axes, top1)
        axes.set_xlabel(unit)
        axes.set_ylabel("published ImageNet-1k top-1, %")
        best = _frontier(values, top1)
        others = sorted(set(range(len(labels))) - set(best), key=lambda i: -top1[i])
        axes.plot([values[i] for i in best], [top1[i] for i in best], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        tooltips = {}
        for gid, chosen, face in (("others", others, "white"), ("best", best, INK)):
            if chosen:
                xs, ys = [values[i] for i in chosen], [top1[i] for i in chosen]
                axes.scatter(xs, ys, s=16, facecolor=face, edgecolor=INK, linewidth=0.8, zorder=3, gid=gid)
                tooltips[gid] = [f"{labels[i]}: {values[i]:.4g} {unit}, {top1[i]:.2f} %" for i in chosen]
        place_labels(axes, [(values[i], top1[i], labels[i]) for i in [*best, *others]])
        return to_svg(figure, name, f"Published top-1 accuracy of {len(labels)} models over {unit}", tooltips)


def _frontier(values: Sequence[float], top1: Sequence[float]) -> list[int]:
    """Return the indices of those that no other beats at the same or a lower cost, by rising cost."""
    order = sorted(range(len(values)), key=lambda i: (values[i], -top1[i]))
    best: list[int] = []
    for i in order:
        if not best or top1[i] > top1[best[-1]]:
            best.append(i)
    return best


def _cost_axis(axes: "Axes", values: Sequence[float]) -> None:
    low, high = min(values) / 1.5, max(values) * 1.5
    ticks = [digit * 10.0**power for power in range(-6, 7) for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_xticks([], minor=True)


def _margin(axes: "Axes", top1: Sequence[float]) -> None:
    room = max(1.0, 0.06 * (max(top1) - min(top1)))
    axes.set_ylim(min(top1) - room, max(top1) + room)
