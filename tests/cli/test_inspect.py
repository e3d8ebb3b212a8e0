"""`inspect`: its rows and totals in every form, what fits into a terminal, and what it refuses."""

import csv
import io
import json
import re
import sys

import pytest

from cnnbench.cli.main import main

KEYS = ["name", "type", "output_shape", "parameters", "macs", "receptive_field", "stride", "start"]


@pytest.fixture
def inspect(capsys):
    """A function that runs the command and returns what it prints."""

    def run(*words):
        assert main(["inspect", *words]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return run


def test_rows_of_lenet5(inspect):
    header, *rows, total, note = inspect("lenet5").splitlines()
    assert header.split() == ["name", "type", "output", "parameters", "MACs", "field", "stride", "start"]
    assert rows[0].split() == ["c1", "Conv2d", "6x28x28", "156", "117.6k", "5", "1", "2.5"]
    assert rows[6].split() == ["c5", "Conv2d", "120x1x1", "48,120", "48.0k", "32", "4", "16"]
    assert rows[8].split()[-3:] == ["all", "-", "-"]
    assert total.split() == ["total", "10", "61,706", "416.5k"]
    assert note.startswith("One image of 1x32x32.")


@pytest.mark.parametrize("source", ["cnnbench", "timm"])
def test_the_last_stage_of_resnet50(inspect, source):
    rows = json.loads(inspect("resnet50", "--source", source, "--format", "json"))
    assert [list(row) for row in rows] == [KEYS] * len(rows)
    by_name = {row["name"]: row for row in rows}
    last = by_name["layer4.2.act3"]
    assert (last["receptive_field"], last["stride"], last["start"]) == ([427, 427], [32, 32], [0.5, 0.5])
    assert rows[-1] == by_name["total"]
    assert (rows[-1]["parameters"], rows[-1]["macs"]) == (25_557_032, 4_089_184_256)
    for key in ("parameters", "macs"):
        assert sum(row[key] for row in rows[:-1]) == rows[-1][key]


def test_csv(inspect):
    rows = list(csv.DictReader(io.StringIO(inspect("lenet5", "--format", "csv"))))
    assert list(rows[0]) == KEYS
    assert (rows[-1]["name"], rows[-1]["parameters"]) == ("total", "61706")


def test_options(inspect):
    words = ("--image-size", "64", "--in-chans", "1", "--num-classes", "7", "--format", "json")
    rows = json.loads(inspect("resnet18", *words))
    assert rows[0]["parameters"] == 64 * 49
    assert rows[0]["output_shape"] == [64, 32, 32]
    assert rows[-1]["output_shape"] == [7]


@pytest.mark.parametrize("source", ["cnnbench", "timm"])
def test_a_network_made_for_one_size_is_made_for_another(inspect, source):
    """It is then the network that timm publishes for that size."""
    words = ("--image-size", "384", "--source", source, "--format", "json")
    resized = json.loads(inspect("vit_tiny_patch16_224", *words))
    made_for_it = json.loads(inspect("vit_tiny_patch16_384", "--source", "timm", "--format", "json"))
    assert resized[0]["output_shape"] == made_for_it[0]["output_shape"] == [192, 24, 24]
    assert (resized[-1]["parameters"], resized[-1]["macs"]) == (made_for_it[-1]["parameters"], made_for_it[-1]["macs"])


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "convnext_tiny"])
def test_ours_and_the_reference_cost_and_see_the_same(inspect, name):
    """Their layers are named alike; how they are grouped into modules may differ."""
    sources = ("cnnbench", "timm")
    ours, theirs = (json.loads(inspect(name, "--source", source, "--format", "json")) for source in sources)
    assert (ours[-1]["parameters"], ours[-1]["macs"]) == (theirs[-1]["parameters"], theirs[-1]["macs"])
    fields = [{row["name"]: row["receptive_field"] for row in rows if row["macs"]} for rows in (ours, theirs)]
    assert fields[0] == fields[1]


def test_notes_tell_what_was_not_counted(inspect):
    gated = inspect("seresnet18", "--source", "timm", "--image-size", "64")
    assert gated.splitlines()[-1] == "Fields follow the maps, not the gates on them, which see the whole image."
    windows = inspect("swin_tiny_patch4_window7_224", "--source", "timm").splitlines()[-1]
    assert windows == "Fields are not known (-) behind bmm."


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("model", ["inception_v3", "vit_tiny_patch16_224"])
def test_fits_into_a_terminal(monkeypatch, width, model):
    """No number is cut, and no line is longer than the terminal."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main(["inspect", model, "--source", "timm"]) == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", sys.stdout.getvalue()).splitlines()
    header, *rows = [line for line in lines if not line.startswith("One image")]
    assert header.split()[-6:] == ["output", "parameters", "MACs", "field", "stride", "start"]
    assert ("type" in header) == (width == 120)
    assert max(map(len, [header, *rows])) <= width
    assert not any("…" in row.split(maxsplit=1)[1] for row in rows)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("resnet51", "unknown model 'resnet51'; did you mean 'resnet50', 'resnet"),
        ("resnet5 --source timm", "timm has no model 'resnet5'; did you mean 'resnet50', 'resnet"),
        ("resnet50 --source tim", "unknown source 'tim'; did you mean 'timm'?"),
        ("resnet50 --image-size 0", "--image-size is 0: it must be at least 1"),
        ("resnet50 --image-size x", "--image-size is 'x', but must be a whole number"),
        ("lenet5 --image-size 12", "images of 12x12 pixels are too small for lenet5: each side needs at least 32"),
        (
            "vit_tiny_patch16_224 --image-size 100",
            "vit_tiny_patch16_224 cannot be built with img_size=100: patch_size 16x16 does not divide",
        ),
        (
            "vit_b_16 --source torchvision --image-size 100",
            "torchvision's vit_b_16 cannot be built with image_size=100",
        ),
        ("resnet50 --in-chans 0", "resnet50 needs in_chans to be a whole number of at least 1, not 0"),
        ("resnet50 --num-classes -1", "resnet50 needs num_classes to be a whole number of at least 0, not -1"),
        ("resnet50 --image_size 64", "unknown option '--image_size'; did you mean '--image-size'?"),
        ("resnet50 --format xml", "--format cannot be 'xml'"),
        ("", "MODEL"),
    ],
)
def test_bad_input(capsys, words, named):
    assert main(["inspect", *words.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("cnnbench: error: ")
    assert named in printed.err
    assert len(printed.err.splitlines()) == 1
