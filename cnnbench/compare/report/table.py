"""The table over all pairs, as the page shows it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from cnnbench.compare.report.values import (
    STATED,
    TRAINED_ALIKE,
    error_text,
    faster,
    giga_text,
    interval_text,
    look_up,
    ratio_text,
    stated_differs,
    stated_text,
    status,
)
from cnnbench.compare.result import Comparison


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: Its head.
        value: Path of what it shows and is sorted by, or what computes it.
        text: Writes a value that is not None.
        note: A smaller text beside it, of the comparison.
        group: The head over several columns.
        number: Whether it is aligned right and sorted as a number.
        mark: The class of a cell that means something: "right", "wrong", "ours", "theirs", "off".
    """

    title: str
    value: str | Callable[[Comparison], Any]
    text: Callable[[Any], str] = str
    note: Callable[[Comparison], str | None] = lambda comparison: None
    group: str = ""
    number: bool = True
    mark: Callable[[Comparison], str | None] = lambda comparison: None


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the value that it is sorted by, a smaller text, what it means; all empty where none."""

    text: str = ""
    value: Any = None
    note: str | None = None
    mark: str | None = None


@dataclass(frozen=True)
class Table:
    """Columns of which at least one pair has a value, the heads over them with their widths, and rows of cells."""

    columns: list[Column]
    groups: list[tuple[str, int]]
    rows: list[list[Cell]]


def _status_mark(comparison: Comparison) -> str | None:
    return {"equal": "right", TRAINED_ALIKE: "right", "not equal": "wrong", "failed": "wrong"}.get(status(comparison))


def _theirs(path: str, text: Callable[[Any], str]) -> Callable[[Comparison], str | None]:
    """Return the note of a cost: theirs, where it is another."""

    def note(comparison: Comparison) -> str | None:
        ours, theirs = (look_up(comparison, f"cost.{side}.{path}") for side in ("ours", "theirs"))
        return None if ours == theirs else f"theirs {text(theirs)}"

    return note


def _error(name: str) -> Column:
    return Column(name, f"parity.max_relative_error.{name.lower()}", error_text, group="Largest relative error")


def _contest(title: str, name: str) -> Column:
    path = f"speed.{name}"

    def note(comparison: Comparison) -> str:
        return interval_text(look_up(comparison, f"{path}.speedup"))

    def mark(comparison: Comparison) -> str | None:
        return faster(look_up(comparison, path))

    return Column(title, f"{path}.speedup.median", ratio_text, note, "Their time over ours", mark=mark)


def _stated_mark(comparison: Comparison) -> str | None:
    return "off" if any(stated_differs(comparison, name) for name in STATED) else None


COLUMNS = (
    Column("Model", "model", number=False),
    Column("Reference", "reference", number=False),
    Column("Equal", status, number=False, mark=_status_mark),
    *(_error(name) for name in ("Logits", "Features", "Gradients", "Buffers")),
    Column("Parameters", "cost.ours.parameters", "{:,}".format, _theirs("parameters", "{:,}".format), "Cost"),
    Column("GMACs", "cost.ours.macs", giga_text, _theirs("macs", giga_text), "Cost"),
    _contest("Forward", "forward"),
    _contest("Train step", "train_step"),
    Column("Ratio", "memory.ratio", ratio_text, group="Memory"),
    Column("Year", "year", group="Published"),
    Column("Top-1 %", "top1", "{:.2f}".format, group="Published"),
    Column("By its authors", stated_text, group="Published", number=False, mark=_stated_mark),
)


def table(comparisons: Sequence[Comparison]) -> Table:
    """Return the table of these pairs, a row each, without columns that would be empty."""
    cells = {column: [_cell(column, comparison) for comparison in comparisons] for column in COLUMNS}
    filled = {column: made for column, made in cells.items() if any(cell.value is not None for cell in made)}
    groups = [(group, len(list(members))) for group, members in groupby(filled, lambda column: column.group)]
    return Table(list(filled), groups, [list(row) for row in zip(*filled.values(), strict=True)])


def _cell(column: Column, comparison: Comparison) -> Cell:
    value = look_up(comparison, column.value) if isinstance(column.value, str) else column.value(comparison)
    if value is None:
        return Cell()
    return Cell(column.text(value), value, column.note(comparison), column.mark(comparison))
