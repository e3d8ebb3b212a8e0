"""`report.json` and `report.csv`, and the three files together."""

import csv
import io
import json
from dataclasses import replace

import pytest
from sample_reports import equal_pair, failed_pair, leaderboard, report, trained_pair, unequal_pair

from cnnbench.compare.report import document, write_report
from cnnbench.compare.report.flat import flat
from cnnbench.compare.result import Report, from_json


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_json_is_the_report():
    made = leaderboard()
    found = json.loads(document(made), parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    assert list(found) == ["environment", "command", "comparisons"]
    last = found["comparisons"][-1]
    assert last["parity"]["max_relative_error"] == {"logits": 0, "features": 2e-16, "gradients": 3e-16, "buffers": 0}
    assert last["training"]["duels"][0]["first_different_step"] == 11
    assert found["comparisons"][-2]["error"] == "not enough memory for a batch of 1"
    assert found["comparisons"][-3]["parity"]["first_divergence"]["module"] == "layer2.0.conv1"
    assert from_json(Report, found) == made


def test_csv_has_a_row_a_pair():
    odd = replace(equal_pair(), model='a,"b"\nc')
    rows = rows_of(flat(report(odd, unequal_pair(), failed_pair(), trained_pair())))
    assert [row["model"] for row in rows] == ['a,"b"\nc', "resnet50", "convnext_large", "resnet34"]
    assert [row["status"] for row in rows] == ["equal", "not equal", "failed", "equal"]
    assert float(rows[0]["error_gradients"]) == 3e-16
    assert int(rows[0]["parameters_theirs"]) == 1_000_000
    assert float(rows[3]["forward_speedup_low"]) == trained_pair().speed.forward.speedup.low
    assert float(rows[3]["train_step_cpu_control_high"]) == trained_pair().speed.train_step.cpu_control.high
    assert rows[1]["divergence_cause"] == "stride (2, 2), theirs (1, 1)"
    assert rows[1]["weights_differences"].startswith("ours has extra.weight")
    stated = [rows[1][f"published_{name}"] for name in ("top1", "parameters", "macs")]
    assert list(map(float, stated)) == [70.5, 1.01e6, 1.05e9]
    assert (rows[1]["published_parameters_differ"], rows[1]["published_macs_differ"]) == ("False", "True")
    assert rows[3]["training_first_different_step"] == "11"
    assert float(rows[3]["training_largest_difference"]) == 1e-7
    assert {key for key, value in rows[2].items() if value} == {"model", "reference", "status", "error", "year"}


def test_files_are_replaced_and_nothing_else_is_left(tmp_path):
    directory = tmp_path / "deep" / "report"
    paths = write_report(report(unequal_pair()), directory)
    assert [path.name for path in paths] == ["report.json", "report.csv", "report.html"]
    made = report(equal_pair())
    write_report(made, directory)
    assert sorted(directory.iterdir()) == sorted(paths)
    assert from_json(Report, json.loads(paths[0].read_text())) == made
    assert rows_of(paths[1].read_text())[0]["status"] == "equal"
    assert "are equal</h1>" in paths[2].read_text()
