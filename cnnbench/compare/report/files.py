"""The three files of a report, each whole or not there."""

import json
from collections.abc import Callable
from pathlib import Path

from cnnbench.callbacks.atomic import written_whole
from cnnbench.compare.report.flat import flat
from cnnbench.compare.report.page import page
from cnnbench.compare.result import Report, to_json


def document(report: Report) -> str:
    """Return the report as one JSON document; `from_json(Report, json.loads(...))` makes it a report again."""
    return json.dumps(to_json(report), indent=2, allow_nan=False) + "\n"


FILES: dict[str, Callable[[Report], str]] = {"report.json": document, "report.csv": flat, "report.html": page}


def write_report(report: Report, directory: Path) -> list[Path]:
    """Write `report.json`, `report.csv` and `report.html`.

    Args:
        report: What was found.
        directory: Where to; made if it is not there. Files of these names are replaced.

    Returns:
        The paths of the three files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        with written_whole(directory / name) as temporary:
            temporary.write_text(content(report), encoding="utf-8", errors="backslashreplace")
    return [directory / name for name in FILES]
