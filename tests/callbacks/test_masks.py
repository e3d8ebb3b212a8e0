"""What is written beside predicted masks."""

import csv
from types import SimpleNamespace

from cnnbench.callbacks.masks import MaskWriter


def test_names_of_classes_are_read_as_they_were_written(tmp_path):
    names = ("back, ground", 'a "quoted" one', "two\nlines", "über")
    trainer = SimpleNamespace(datamodule=SimpleNamespace(class_names=names), is_global_zero=True)
    MaskWriter(tmp_path).on_predict_start(trainer, None)
    with (tmp_path / "classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(row["name"] for row in rows) == names
    assert [[int(row[key]) for key in ("id", "red", "green", "blue")] for row in rows[:3]] == [
        [0, 0, 0, 0],
        [1, 128, 0, 0],
        [2, 0, 128, 0],
    ]
