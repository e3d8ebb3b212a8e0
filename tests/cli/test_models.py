"""`models`: what it lists, in which form and order, and what it refuses."""

import csv
import io
import json

import pytest

from cnnbench import list_models
from cnnbench.cli.main import main

COLUMNS = ["name", "source", "family", "year", "parameters", "macs", "input_size", "top1", "reference", "paper"]


@pytest.fixture
def models(capsys):
    """A function that runs the command and returns what it prints."""

    def run(*words):
        assert main(["models", *words]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return run


def test_lists_what_there_is(models):
    header, *rows = models("resnet*").splitlines()
    assert header.split()[:6] == ["name", "source", "family", "year", "parameters", "GMACs"]
    assert [row.split()[0] for row in rows] == list_models("resnet*")
    (resnet,) = (row for row in rows if row.startswith("resnet18 "))
    assert resnet.split()[1:8] == ["cnnbench", "resnet", "2015", "11,689,512", "1.814", "3x224x224", "73.16"]
    assert resnet.rstrip().endswith("Deep Residual Learning for Image Recognition")


def test_json_is_one_document(models):
    rows = json.loads(models("lenet5", "--format", "json"))
    assert [list(row) for row in rows] == [COLUMNS]
    assert rows[0]["parameters"] == 61_706
    assert rows[0]["macs"] == 416_520
    assert rows[0]["input_size"] == [1, 32, 32]
    assert rows[0]["top1"] is None


def test_csv(models):
    (row,) = csv.DictReader(io.StringIO(models("resnet18", "--format", "csv")))
    assert list(row) == COLUMNS
    assert (row["name"], row["parameters"], row["top1"]) == ("resnet18", "11689512", "73.164")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["resnet18", "--family", "resnet"], ["resnet18"]),
        (
            ["convnext*", "--sort", "macs", "--descending"],
            [f"convnext_{s}" for s in ("large", "base", "small", "tiny")],
        ),
        (["resnet[135]*", "--sort", "top1"], ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]),
        (["lenet5", "--sort", "top1"], ["lenet5"]),
        (["resnet1?", "--source", "timm"], ["resnet18"]),
        (["vgg11*", "--source", "torchvision"], ["vgg11", "vgg11_bn"]),
    ],
    ids=" ".join,
)
def test_filters_and_order(models, words, expected):
    rows = json.loads(models(*words, "--format", "json"))
    assert [row["name"] for row in rows] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet19"], "no model matches 'resnet19'; did you mean 'resnet18'"),
        (["lenet"], "no model matches 'lenet'; did you mean '*lenet*'?"),
        (["--family", "resnett"], "unknown family 'resnett'; did you mean 'resnet'"),
        (["--sort", "params"], "--sort cannot be 'params'; did you mean 'parameters'"),
        (["--source", "tim"], "--source cannot be 'tim'; did you mean 'timm'"),
        (["--source", "timm"], "timm has too many models to list all: give a pattern"),
        (["--formt", "json"], "unknown option '--formt'; did you mean '--format'"),
        (["--format", "yaml"], "--format cannot be 'yaml'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(capsys, words, message):
    assert main(["models", *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
