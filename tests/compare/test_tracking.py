"""A report in Weights & Biases; the report's files are stand-ins."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnbench.compare.result import Report

sys.path.append(str(Path(__file__).parents[1] / "callbacks"))
from tracked import clean_environment, session


@pytest.fixture
def track_report(monkeypatch):
    def write_report(report, directory):
        files = {"report.csv": 'model,speedup\nresnet50,"1,01"\n', "report.html": "<h1>EQUAL</h1>", "report.json": "{}"}
        for name, text in files.items():
            (directory / name).write_text(text)
        return [directory / name for name in files]

    monkeypatch.setitem(sys.modules, "cnnbench.compare.report", SimpleNamespace(write_report=write_report))
    from cnnbench.compare.tracking import track_report

    monkeypatch.setattr("cnnbench.compare.tracking.write_report", write_report)
    return track_report


def test_the_table_and_the_page_of_the_report_are_logged(track_report, tmp_path):
    with session(clean_environment(tmp_path / "home")):
        where = track_report(Report({"seed": 0}, "python -m cnnbench compare resnet50", []), "auto", tmp_path)
    assert where.startswith("offline; to upload: wandb sync ")
    run = Path(where.rpartition(" ")[2])
    (table,) = run.rglob("*.table.json")
    (page,) = run.rglob("*.html")
    assert json.loads(table.read_text())["data"] == [["resnet50", "1,01"]]
    assert page.read_text().endswith("<h1>EQUAL</h1>")


def test_nothing_is_begun_where_it_is_off(track_report, tmp_path):
    with session(clean_environment(tmp_path / "home") | {"WANDB_MODE": "disabled"}):
        assert track_report(Report({}, None, []), "auto", tmp_path) == "disabled"
    assert not (tmp_path / "wandb").exists()
