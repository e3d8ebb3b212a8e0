"""Comparisons on standard output, verdicts in colour."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from cnnbench.compare.architectures import architectures
from cnnbench.compare.report.values import status
from cnnbench.compare.result import Comparison
from cnnbench.compare.text import WIDTH, block

STYLES = {
    "equal": "bold green",
    "not equal": "bold red",
    "failed": "bold red",
    "not checked": "dim",
    "trained, losses identical": "bold green",
    "trained, losses differ": "bold yellow",
}


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Print all comparisons on standard output, in colour where that is a terminal."""
    console = Console(file=sys.stdout, highlight=False, markup=False)
    width = min(WIDTH, console.width) if console.is_terminal else WIDTH
    for comparison in comparisons:
        for line in _coloured(comparison, width):
            console.print(line, soft_wrap=True)
        console.print()
    if len(comparisons) > 1:
        print(architectures(comparisons, width))


def _coloured(comparison: Comparison, width: int) -> list[Text]:
    head, *lines = map(Text, block(comparison, width))
    found = status(comparison)
    head.stylize(STYLES[found], len(head) - len(found))
    return [head, *lines]
