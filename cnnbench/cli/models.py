"""`python -m cnnbench models`: list the models there are."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from cnnbench.errors import UserError, did_you_mean


def run(args: Sequence[str] | None) -> None:
    """Print a row a model: name, year, parameters, reference, paper.

    Raises:
        UserError: No model matches the pattern.
    """
    pattern = _parser().parse_args(None if args is None else list(args)).pattern
    import torch
    from rich.console import Console
    from rich.table import Table

    from cnnbench.models import create_model, list_models, model_info

    names = list_models(pattern)
    if not names:
        raise UserError(f"no model matches {pattern!r}{did_you_mean(pattern.strip('*'), list_models())}")
    rows = []
    for name in names:
        info = model_info(name)
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in create_model(name).parameters())
        rows.append((name, str(info.paper.year), f"{parameters:,}", _reference(info.reference), info.paper.title))
    table = Table(box=None, pad_edge=False)
    for position, column in enumerate(("name", "year", "parameters", "reference", "paper")):
        widest = max(len(row[position]) for row in rows)
        last = column == "paper"  # gives way where the terminal is narrow
        justify = "right" if column in ("year", "parameters") else "left"
        table.add_column(column, justify=justify, no_wrap=True, overflow="ellipsis", min_width=None if last else widest)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(table) if console.is_terminal else Console(width=200, highlight=False).print(table)


def _reference(reference: Any) -> str:
    if reference is None or isinstance(reference, str):
        return reference or "none"
    return f"{reference.__module__}:{reference.__name__}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _parser() -> _Parser:
    parser = _Parser(prog="python -m cnnbench", description="List the models there are.")
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "models", prog="python -m cnnbench models", description="List the models there are."
    )
    command.add_argument(
        "pattern", nargs="?", default="*", help="shell pattern of names, such as 'resnet*'; default: all"
    )
    return parser
