"""How a session of comparisons goes on, on standard error: a bar in a terminal, elsewhere a line a finished pair."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cnnbench.compare.apart import Pair
from cnnbench.compare.report.values import status
from cnnbench.compare.result import Comparison
from cnnbench.compare.session import Watcher

A_DAY = 24 * 60 * 60.0  # seconds; a model takes up to minutes, so all of them tell how long the others will


class ComparisonProgress(Watcher):
    """Shows what is done, and the time left."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            *(BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}", markup=False)),
            *(TimeElapsedColumn(), TextColumn("gone,"), TimeRemainingColumn(), TextColumn("left")),
        )
        options = {"console": console, "transient": True, "speed_estimate_period": A_DAY}
        self._bar = Progress(*columns, **options) if console.is_terminal else None
        self._several = False
        self._began = time.monotonic()  # what is measured now

    def __enter__(self) -> "ComparisonProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begins(self, total: int, kept: int) -> None:
        """Show how many there are."""
        self._several = total > 1
        if self._bar is not None:
            self._task = self._bar.add_task("", total=total, completed=kept)
        elif kept:
            print(f"{kept} of {total} models are kept from before", file=sys.stderr, flush=True)

    def doing(self, pair: Pair, check: str) -> None:
        """Show what is measured now."""
        if self._bar is not None:
            self._bar.update(self._task, description=f"{pair.model}: {check}", refresh=True)

    def finished(self, comparison: Comparison) -> None:
        """Show that a pair is finished."""
        if self._bar is not None:
            self._bar.advance(self._task)
        elif self._several:
            seconds = time.monotonic() - self._began
            print(f"{comparison.model}  {status(comparison).upper()}  {seconds:.0f} s", file=sys.stderr, flush=True)
        self._began = time.monotonic()
