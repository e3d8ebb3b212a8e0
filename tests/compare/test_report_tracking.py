"""A report in Weights & Biases."""

import json
import sys
from pathlib import Path

import stand_ins

from cnnbench.compare.result import Comparison, Report
from cnnbench.compare.tracking import track_report

sys.path.append(str(Path(__file__).parents[1] / "callbacks"))
from tracked import clean_environment, session

REPORT = Report({"seed": 0}, None, [Comparison("resnet50", "timm/resnet50", parity=stand_ins.EQUAL)])


def test_the_table_and_the_page_of_the_report_are_logged(tmp_path):
    with session(clean_environment(tmp_path / "home")):
        where = track_report(REPORT, "auto", tmp_path)
    assert where.startswith("offline; to upload: wandb sync ")
    run = Path(where.rpartition(" ")[2])
    (table,) = run.rglob("*.table.json")
    (page,) = run.rglob("*.html")
    logged = json.loads(table.read_text())
    (row,) = (dict(zip(logged["columns"], row, strict=True)) for row in logged["data"])
    assert (row["model"], row["status"], row["error_gradients"]) == ("resnet50", "equal", "3e-16")
    assert "resnet50 and timm/resnet50 are equal" in page.read_text()


def test_nothing_is_begun_where_it_is_off(tmp_path):
    with session(clean_environment(tmp_path / "home") | {"WANDB_MODE": "disabled"}):
        assert track_report(REPORT, "auto", tmp_path) == "disabled"
    assert not (tmp_path / "wandb").exists()
