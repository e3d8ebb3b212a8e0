"""What the commands share that print a table: their parser, the formats, the table."""

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, NoReturn

from cnnbench.errors import UserError, did_you_mean, either

FORMATS = ("table", "json", "csv")
PIPED_WIDTH = 250  # where there is no terminal to fit into
NARROWEST = 4  # of a column that gives way


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Of the row's value, and the column's name in JSON and CSV.
        title: Its head in the table; empty: the key.
        right: Whether to align it right.
        show: Makes the table's text of a value that is not None.
        gives_way: Whether it is cut where the terminal is narrow.
        keeps_end: Whether it is then cut at the front.
    """

    key: str
    title: str = ""
    right: bool = False
    show: Callable[[Any], str] = str
    gives_way: bool = False
    keeps_end: bool = False


class ListingParser(argparse.ArgumentParser):
    """Raises a `UserError` with the nearest option where argparse would print its usage and leave."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong."""
        if unknown := re.search(r"unrecognized arguments: (--?[\w-]+)", message):
            raise UserError(f"unknown option {unknown[1]!r}{did_you_mean(unknown[1], self._option_string_actions)}")
        if wrong := re.search(r"argument ([^:]+): invalid choice: '([^']*)' \(choose from (.*)\)", message):
            choices = re.findall(r"[\w-]+", wrong[3])
            raise UserError(f"{wrong[1]} cannot be {wrong[2]!r}{did_you_mean(wrong[2], choices)}")
        if wrong := re.search(r"argument ([^:]+): invalid (int|float) value: (.*)", message):
            wanted = {"int": "a whole number", "float": "a number"}[wrong[2]]
            raise UserError(f"{wrong[1]} is {wrong[3]}, but must be {wanted}")
        if lone := re.search(r"argument ([^:]+): expected one argument", message):
            raise UserError(f"{lone[1]} needs a value")
        raise UserError(message)

    def add_format(self, formats: Sequence[str] = FORMATS) -> None:
        """Add the option of the form in which rows are printed."""
        self.add_argument("--format", choices=formats, default="table", help=f"{either(formats)}; default: table")


def matching(names: Sequence[str], pattern: str) -> list[str]:
    """Return the names that match a shell pattern, in their order.

    Raises:
        UserError: There is none.
    """
    if found := [name for name in names if fnmatch(name, pattern)]:
        return found
    near = [name for name in names if pattern.strip("*") in name]
    suggestion = f"; did you mean '*{pattern.strip('*')}*'?" if near else did_you_mean(pattern.strip("*"), names)
    raise UserError(f"no model matches {pattern!r}{suggestion}")


def print_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column], output_format: str) -> None:
    """Print rows as a table, or as one document of JSON or CSV and nothing else.

    Args:
        rows: A mapping a row; what is missing or None is empty in a table and in CSV, and null in JSON.
        columns: What to print of them.
        output_format: One of `FORMATS`.
    """
    records = [{column.key: row.get(column.key) for column in columns} for row in rows]
    if output_format == "json":
        print(json.dumps(records, indent=2, ensure_ascii=False))
    elif output_format == "csv":
        writer = csv.DictWriter(sys.stdout, [column.key for column in columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _flat(value) for key, value in record.items()} for record in records)
    else:
        _print_table(records, columns)


def _print_table(records: list[dict[str, Any]], columns: Sequence[Column]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    widths = _widths(records, columns, console.width)
    for column, width in zip(columns, widths, strict=True):
        justify = "right" if column.right else "left"
        title = column.title or column.key
        table.add_column(title, justify=justify, no_wrap=True, overflow="ellipsis", width=width)
    for record in records:
        texts = (_text(column, record[column.key]) for column in columns)
        table.add_row(*map(_cut, texts, widths, (column.keeps_end for column in columns)))
    console.print(table)


def _widths(records: list[dict[str, Any]], columns: Sequence[Column], room: int) -> list[int]:
    """Return the columns' widths: of what stands in them, less where it has to give way, the widest first."""
    texts = [
        [column.title or column.key, *(_text(column, record[column.key]) for record in records)] for column in columns
    ]
    widths = [max(map(len, column)) for column in texts]
    yielding = [i for i, column in enumerate(columns) if column.gives_way]
    excess = sum(widths) + 2 * (len(columns) - 1) - room
    for _ in range(excess if yielding else 0):
        widest = max(yielding, key=widths.__getitem__)
        widths[widest] = max(widths[widest] - 1, NARROWEST)
    return widths


def _flat(value: Any) -> Any:
    """Return a pair or a shape as 3x224x224, which a cell of CSV can hold."""
    return "x".join("" if part is None else str(part) for part in value) if isinstance(value, (tuple, list)) else value


def _text(column: Column, value: Any) -> str:
    return "" if value is None else column.show(value)


def _cut(text: str, width: int, keeps_end: bool) -> str:
    if len(text) <= width:
        return text
    return f"…{text[len(text) - width + 1 :]}" if keeps_end else f"{text[: width - 1]}…"
