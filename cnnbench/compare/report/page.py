"""`report.html`: one page that needs nothing but itself."""

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cnnbench.compare.report import values, words
from cnnbench.compare.report.curves import diverging_layer, layer_plot, loss_plot
from cnnbench.compare.report.plots import accuracy_plots, ratio_plots
from cnnbench.compare.report.table import table
from cnnbench.compare.result import Comparison, Parity, Report, StageCost, Training


@dataclass(frozen=True)
class Parting:
    """A pair that is not equal, with the plot of its layers where they were measured."""

    index: int
    comparison: Comparison
    parity: Parity
    plot: Markup | None
    marked: bool


@dataclass(frozen=True)
class Trained:
    """A pair that was trained, with the plot of its losses."""

    comparison: Comparison
    training: Training
    plot: Markup | None


@dataclass(frozen=True)
class StageCosts:
    """A pair's cost by stage: of both sides where they are the same, or of one after the other."""

    name: str
    sides: list[tuple[str, list[StageCost]]]


def page(report: Report) -> str:
    """Return the report as HTML: it loads nothing, and no script but its own may run."""
    pairs = report.comparisons
    script = Markup(files("cnnbench.compare.report").joinpath("sort.js").read_text(encoding="utf-8"))
    return (
        _environment()
        .get_template("page.html")
        .render(
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            headline=words.headline(pairs),
            verdict_kind=words.verdict_kind(pairs),
            equality=words.equality_text(pairs),
            problems=words.problems(pairs),
            lines=[
                *(line for line in (words.draws_line(pairs), *words.speed_lines(pairs)) if line),
                *words.note_lines(pairs),
            ],
            table=table(pairs),
            caption=words.table_caption(pairs),
            costs=_costs(pairs),
            ratio_plots=ratio_plots(pairs),
            accuracy_plots=accuracy_plots(pairs),
            trained=_trained(pairs),
            served=[pair for pair in pairs if pair.speed and pair.speed.served],
            partings=_partings(pairs),
            environment={key: _setting(value) for key, value in report.environment.items() if value is not None},
            command=report.command,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cnnbench.compare.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "sortable": _sortable,
        "error": values.error_text,
        "ratio": values.ratio_text,
        "interval": values.interval_text,
        "pair": values.pair_name,
        "place": words.place_text,
        "errors": words.errors_text,
    }
    return environment


def _sortable(value: Any) -> Any:
    """Return a number as JavaScript reads it; what is no number counts as the largest."""
    if isinstance(value, float) and not math.isfinite(value):
        return "-Infinity" if value < 0 else "Infinity"
    return value


def _costs(pairs: Sequence[Comparison]) -> list[StageCosts]:
    counted = [(values.pair_name(pair), pair.cost.ours.stages, pair.cost.theirs.stages) for pair in pairs if pair.cost]
    return [
        StageCosts(name, [("both", ours)] if ours == theirs else [("ours", ours), ("theirs", theirs)])
        for name, ours, theirs in counted
        if ours or theirs
    ]


def _trained(pairs: Sequence[Comparison]) -> list[Trained]:
    return [
        Trained(pair, pair.training, loss_plot(pair, pair.training, f"losses-{index}") if pair.training.duels else None)
        for index, pair in enumerate(pairs)
        if pair.training
    ]


def _partings(pairs: Sequence[Comparison]) -> list[Parting]:
    return [
        Parting(
            index,
            pair,
            pair.parity,
            layer_plot(pair, pair.parity, f"layers-{index}") if pair.parity.layers else None,
            diverging_layer(pair.parity) is not None,
        )
        for index, pair in enumerate(pairs)
        if pair.parity and not pair.parity.passed
    ]


def _setting(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
