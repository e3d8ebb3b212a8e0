"""What is written beside predicted masks."""

import csv
from types import SimpleNamespace

import pytest

from cnnbench.callbacks.masks import MaskWriter, output_names


def test_names_of_classes_are_read_as_they_were_written(tmp_path):
    names = ("back, ground", 'a "quoted" one', "two\nlines", "über")
    data = SimpleNamespace(class_names=names, datasets={"predict": ()})
    trainer = SimpleNamespace(datamodule=data, is_global_zero=True)
    MaskWriter(tmp_path).on_predict_start(trainer, None)
    with (tmp_path / "classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(row["name"] for row in rows) == names
    assert [[int(row[key]) for key in ("id", "red", "green", "blue")] for row in rows[:3]] == [
        [0, 0, 0, 0],
        [1, 128, 0, 0],
        [2, 0, 128, 0],
    ]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["rgb.jpg", "sub/rgb.jpg", "000007"], ["rgb", "sub/rgb", "000007"]),
        (["a.jpg", "a.png", "b.png", "sub/a.jpg"], ["a.jpg", "a.png", "b", "sub/a"]),
        (["a.jpg", "a.png", "a.jpg.bmp"], ["a.jpg", "a.png", "a.jpg.bmp"]),
        (["v1.2/x.tar.png", "v1.2/x.jpg"], ["v1.2/x.tar", "v1.2/x"]),
    ],
)
def test_files_are_called_as_their_images_and_no_two_alike(files, names):
    assert output_names(files) == names
