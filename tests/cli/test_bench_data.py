"""`bench-data`: a row a stage for each pipeline, and the mistakes."""

import json

import pytest

from cnnbench.cli.main import main

STAGES = ["read", "decode", "crop", "augment", "collate", "transfer", "total", "ours is", "loader", "ours is"]
SMALL = ("--batch-size", "4", "--rounds", "2")
OF_FILES, OF_MEMORY = ("--image-size", "32"), ("--images", "16")


def measured(capsys, *words):
    assert main(["bench-data", *map(str, words), *SMALL, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_is_measured_stage_by_stage(photos, capsys):
    rows = measured(capsys, *OF_FILES, "--data", photos)
    assert [row["stage"] for row in rows] == STAGES
    for row in rows:
        names = ("torchvision", "timm", "ours again") if row["stage"] == "ours is" else ("ours", "torchvision", "timm")
        for name in names:
            median, low, high = row[name]
            assert 0 < low <= median <= high
    stages, total = rows[:6], rows[6]
    for name in ("ours", "timm"):  # the whole takes longer than any part
        assert total[name][0] < min(row[name][2] for row in stages)


def test_a_set_in_memory_is_measured(capsys):
    rows = measured(capsys, *OF_MEMORY, "--data", "cifar")
    assert [row["stage"] for row in rows] == ["loader", "ours is"]
    assert rows[0].keys() >= {"ours", "torchvision"}


def test_the_table_says_what_it_measured(photos, capsys):
    assert main(["bench-data", "--data", str(photos), *SMALL, *OF_FILES, "--decoder", "pil"]) == 0
    out = capsys.readouterr().out
    assert "decoder pil" in out
    assert "2 interleaved rounds" in out
    assert all(stage in out for stage in STAGES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--data"),
        (["--data", "nowhere"], "no folder nowhere/train"),
        (["--data", "cifar", "--rounds", "0"], "--rounds is 0"),
        (["--data", "cifar", "--device", "gpu"], "--device is 'gpu': this machine has cpu"),
        (["--data", "cifar", "--decoder", "pil"], "--decoder does not go with --data cifar"),
        (["--data", "PHOTOS", "--images", "100"], "--images does not go with --data "),
        (["--data", "cifar", "--round", "3"], "unknown option '--round'; did you mean '--rounds'"),
        (["--data", "PHOTOS", "--batch-size", "13"], "--batch-size is 13"),
        (["--data", "PHOTOS", "--decoder", "turbo"], "decoder is 'turbo'"),
    ],
)
def test_mistakes(photos, capsys, words, message):
    assert main(["bench-data", *(str(photos) if word == "PHOTOS" else word for word in words)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
