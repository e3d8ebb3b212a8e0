"""`metrics.csv`: a row each time something is logged, whole after a kill, and continued by a resumed run."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from cnnbench.callbacks.atomic import written_whole

NAME = "metrics.csv"


class MetricsFile(Logger):
    """Writes `metrics.csv`: `step`, `epoch`, and a column for each metric, in alphabetic order.

    Lightning's `CSVLogger` deletes a file that it finds, and writes the file anew in place when a metric appears, so
    that a kill may leave half of it.

    Args:
        directory: Where the file is.
        kept: How many rows of a file that is there belong to the run that goes on; the others go with the first new
            row.

    Attributes:
        logged: How many rows there are.
    """

    def __init__(self, directory: Path, kept: int = 0) -> None:
        super().__init__()
        self.path = directory / NAME
        self.logged = kept
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Name of the file."""
        return NAME

    @property
    def version(self) -> str:
        """Name of the run's directory."""
        return self.path.parent.name

    @property
    def save_dir(self) -> str:
        """The run's directory."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Write nothing: `config.yaml` holds more than the hyperparameters."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row."""
        row = {**metrics, "step": step}
        if self._columns is None or not row.keys() <= set(self._columns):
            former = _read(self.path)[: self.logged]
            self._columns = sorted(set(row).union(*former))
            with written_whole(self.path) as temporary:
                _append(temporary, self._columns, [dict(zip(self._columns, self._columns, strict=True)), *former])
        _append(self.path, self._columns, [row])
        self.logged += 1


def read_rows(directory: Path) -> list[dict[str, str]]:
    """Return the rows of a run's `metrics.csv`, without what is empty in each; none where there is no file."""
    return [{key: text for key, text in row.items() if text} for row in _read(directory / NAME)]


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _append(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, fieldnames=columns).writerows(rows)
