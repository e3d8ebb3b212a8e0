"""How a session of comparisons goes on, on standard error: a bar in a terminal, elsewhere a line a model."""

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
        self._total = self._done = self._kept = 0
        self._began = time.monotonic()

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
        self._total, self._done, self._kept = total, kept, kept
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
        self._done += 1
        if self._bar is not None:
            self._bar.advance(self._task)
        elif self._total > 1:
            said = comparison.error or status(comparison)
            head = f"{self._done}/{self._total}  {comparison.model}"
            print(f"{head}  {said}{self._left()}", file=sys.stderr, flush=True)

    def _left(self) -> str:
        each = (time.monotonic() - self._began) / (self._done - self._kept)
        left = each * (self._total - self._done)
        return f"  (about {left / 60:.0f} min left)" if left >= 60 else ""
