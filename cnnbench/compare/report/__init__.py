"""The report of a comparison: `report.json`, `report.csv` and the page `report.html`."""

from cnnbench.compare.report.files import document, write_report

__all__ = ["document", "write_report"]
