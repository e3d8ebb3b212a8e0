"""The table of architectures: a line a model, and what papers state of it."""

import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from cnnbench.compare.report.values import giga_text, look_up, stated_text, status
from cnnbench.compare.result import Comparison

NAME = 22  # columns of a name


class _Column(NamedTuple):
    title: str
    value: str | Callable[[Comparison], Any]
    show: Callable[[Any], str] = str
    right: bool = True


def architectures(comparisons: Sequence[Comparison], width: int) -> str:
    """Return a line a model: year, accuracy, cost, verdict, and what papers state of it.

    Args:
        comparisons: The pairs.
        width: Of the table, at most, in columns.
    """
    rows = [[_cell(column, comparison) for column in _COLUMNS] for comparison in comparisons]
    filled = [index for index in range(len(_COLUMNS)) if any(row[index] for row in rows)]
    table = Table(box=None, pad_edge=False)
    for index in filled:
        column = _COLUMNS[index]
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(row[index] for index in filled))
    text = io.StringIO()
    Console(file=text, width=width, highlight=False, markup=False, color_system=None).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    if any("*" in row[-1] for row in rows):
        lines.append("* as published; differs from what was measured by over 2 %")
    return "\n".join(lines)


def _cell(column: _Column, comparison: Comparison) -> str:
    value = look_up(comparison, column.value) if isinstance(column.value, str) else column.value(comparison)
    return "" if value is None else column.show(value)


def _name(comparison: Comparison) -> str:
    return comparison.model if len(comparison.model) <= NAME else f"…{comparison.model[1 - NAME :]}"


def _equal(comparison: Comparison) -> str | None:
    return {"equal": "yes", "not equal": "no", "failed": "failed"}.get(status(comparison))


_COLUMNS = (
    _Column("model", _name, right=False),
    _Column("year", "year"),
    _Column("top-1", "top1", "{:.2f}".format),
    _Column("parameters", "cost.ours.parameters", "{:,}".format),
    _Column("GMACs", "cost.ours.macs", giga_text),
    _Column("equal", _equal, right=False),
    _Column("forward", "speed.forward.speedup.median", "{:.2f}x".format),
    _Column("step", "speed.train_step.speedup.median", "{:.2f}x".format),
    _Column("published", stated_text, right=False),
)
