"""`compare`: what it prints and returns; the checks themselves are stand-ins."""

import io
import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import stand_ins

from cnnbench.compare.published import PUBLISHED
from cnnbench.compare.result import Comparison
from cnnbench.compare.text import block

pytestmark = pytest.mark.usefixtures("checks")

EQUAL = """\
lenet5  ours against timm's layers                                                 EQUAL
  weights     320 of 320 tensors, same keys
  float64     logits 0 · features 0 · gradients 3e-16 · buffers 0        (worst relative error)
  cost        25,557,032 = 25,557,032 parameters · 4.089 = 4.089 GMACs

"""
PARTED = """\
small  user_nets:small against timm/resnet18                                   NOT EQUAL
  first divergence  layer2.0.conv1: stride (2, 2), theirs (1, 1); layer2.0.conv2: stride (1, 1),
                    theirs (2, 2)
                    inputs agree to 1e-16, outputs differ by 0.38; 214 of 320 tensors lie behind it
"""


def test_an_equal_pair(compare):
    assert compare("lenet5") == (0, EQUAL, "")


def test_a_pair_that_parts(compare, checks):
    checks(stand_ins.PARTED)
    code, out, _ = compare("user_nets:small", "--against", "timm/resnet18", "--num-classes", 4)
    assert code == 1
    assert out.startswith(PARTED)


MEASURED = """\
resnet50  ours against timm                                                        EQUAL
  weights     320 of 320 tensors, same keys
  float64     logits 0 · features 0 · gradients 3e-16 · buffers 0        (worst relative error)
  cost        25,557,032 = 25,557,032 parameters · 4.089 = 4.089 GMACs
  forward     1.01x [0.98, 1.03]   control [0.97, 1.03]   no difference this machine resolves
  train step  0.99x [0.97, 1.02]   control [0.98, 1.02]   no difference this machine resolves
  images      8 at a time
  memory      1.00x (1.92 = 1.92 GiB)
  training    identical losses in all 4 steps of 2 seeds
              ours · theirs · difference, over all seeds:
              val/accuracy  0.6167 ± 0.1126 · 0.6167 ± 0.1126 · +0.0000 [-0.0100, +0.0100]
              seconds a step 0.035 · 0.034
"""


def test_all_that_can_be_measured():
    """Straight from the findings: what is timed runs in a process of its own."""
    parts = {name: getattr(stand_ins, name.upper()) for name in ("cost", "speed", "memory", "training")}
    comparison = Comparison("resnet50", "timm/resnet50", parity=stand_ins.EQUAL, **parts)
    assert "".join(f"{line}\n" for line in block(comparison)) == MEASURED


def test_nothing_is_said_of_parity_that_was_not_checked(compare):
    code, out, _ = compare("lenet5", checks="cost")
    assert (code, out.splitlines()[0].split()[-2:]) == (0, ["NOT", "CHECKED"])


def test_json_is_one_document_and_nothing_else(compare):
    words = ("user_nets:talkative", "--against", "user_nets:small", "--format", "json", "--seed", 3)
    code, out, err = compare(*words)
    document = json.loads(out)
    assert (code, err) == (0, "printed by the network\n" * err.count("\n"))
    assert list(document) == ["environment", "command", "comparisons"]
    (comparison,) = document["comparisons"]
    assert (comparison["model"], comparison["reference"]) == ("user_nets:talkative", "user_nets:small")
    assert comparison["parity"]["max_relative_error"]["gradients"] == 3e-16
    assert comparison["cost"]["ours"]["macs"] == 4_089_184_256
    assert document["environment"]["seed"] == 3
    assert document["command"] == f"python -m cnnbench compare {' '.join(map(str, words))} --checks parity,cost"


def test_json_has_the_mistake_too(compare):
    code, out, err = compare("lenet6", "--format", "json")
    (comparison,) = json.loads(out)["comparisons"]
    assert code == 2
    assert err == f"cnnbench: error: {comparison['error']}\n"


def test_lines_fit_into_100_columns(compare, checks):
    """However long names, causes and errors are."""
    long = "a.module.of.some.depth.conv"
    divergence = replace(stand_ins.PARTED.first_divergence, module=long * 3, reference_module=long * 5)
    checks(replace(stand_ins.PARTED, first_divergence=divergence))
    _, out, _ = compare("user_nets:small", "--against", "user_nets:" + "small")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    assert long * 5 in re.sub(r"\s+", "", out)


def in_this_process(monkeypatch):
    """Compare several models without a process each."""
    from cnnbench.compare import pair, session

    def compare_here(names, settings, **options):
        return pair.compare_specs(names.model, names.against, settings, **options)

    monkeypatch.setattr(session, "compare_apart", compare_here)


def test_of_several_models_one_may_fail(compare, monkeypatch):
    in_this_process(monkeypatch)
    code, out, err = compare("lenet5", "lenet6", "user_nets:raises")
    assert code == 2
    heads = [
        line.split()[0] + " " + line.split()[-1]
        for line in out.split("\n\n")
        if line
        for line in [line.splitlines()[0]]
    ]
    assert heads[:3] == ["lenet5 EQUAL", "lenet6 FAILED", "raises FAILED"]
    assert "  error       unknown model 'lenet6'; did you mean 'lenet5'" in out
    progress = err.splitlines()
    assert [re.sub(r"\d+ s", "N s", line) for line in progress] == [
        "lenet5  EQUAL  N s",
        "lenet6  FAILED  N s",
        "user_nets:raises  FAILED  N s",
    ]


def test_a_mistake_outweighs_a_difference(compare, checks, monkeypatch):
    in_this_process(monkeypatch)
    checks(stand_ins.PARTED)
    assert compare("lenet5", "timm/lenet5", "--against", "lenet5")[0] == 1
    assert compare("lenet5", "lenet6", "--against", "lenet5")[0] == 2


def test_the_table_of_architectures(compare, monkeypatch):
    """The stand-in gives every model the cost of ResNet-50, so that only its own published figures come near."""
    in_this_process(monkeypatch)
    monkeypatch.setattr("cnnbench.compare.pair.check_comparable", lambda ours, theirs, size: None)
    code, out, err = compare("--all")
    assert code == 0
    table = out.rpartition("\n\n")[2].splitlines()
    rows = {line.split()[0]: line.split() for line in table[1:-1]}
    assert table[0].split() == ["model", "year", "top-1", "parameters", "GMACs", "equal", "published"]
    assert rows["resnet50"] == ["resnet50", "2015", "81.24", "25,557,032", "4.089", "yes", "75.3,", "25M*,", "4.1G"]
    assert rows["vgg16"][-3:] == ["71.6,", "138M*,", "15.5G*"]
    assert table[-1] == "* as published; differs from what was measured by over 2 %"
    assert PUBLISHED.keys() <= rows.keys()
    assert max(map(len, table)) <= 100
    assert len(err.splitlines()) == len(rows) > 60


def test_a_pattern_is_all_models_that_match(compare, monkeypatch):
    in_this_process(monkeypatch)
    monkeypatch.setattr("cnnbench.compare.pair.check_comparable", lambda ours, theirs, size: None)
    _, out, _ = compare("vgg1[13]", "vgg11_bn", "--format", "json")
    assert [row["model"] for row in json.loads(out)["comparisons"]] == ["vgg11", "vgg13", "vgg11_bn"]


def test_ctrl_c_says_how_to_go_on(compare, monkeypatch, tmp_path):
    def stop(ours, theirs, size, seed, device):
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "cnnbench.compare.parity", SimpleNamespace(check_parity=stop))
    said = "cnnbench: stopped; with --output DIR finished models are kept, and the same command goes on\n"
    assert compare("lenet5") == (130, "", said)
    said = f"cnnbench: stopped; 0 of 1 models are kept in {tmp_path}, and the same command goes on\n"
    assert compare("lenet5", "--output", tmp_path) == (130, "", said)


def test_a_bar_in_a_terminal(compare, monkeypatch):
    """It is drawn on standard error, and gone at the end."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    code, out, _ = compare("lenet5")
    assert (code, out) == (0, EQUAL)
    assert "0/1 lenet5: parity" in re.sub(r"\x1b\[[\d;?]*\w", "", screen.getvalue())


def test_a_report_is_written_where_it_was_asked_for(compare, tmp_path):
    folder = tmp_path / "deep/down"
    files = [folder / name for name in ("report.json", "report.csv", "report.html")]
    code, out, _ = compare("lenet5", "--output", folder)
    assert (code, out) == (0, EQUAL + "".join(f"{path}\n" for path in files))
    _, document, paths = compare("lenet5", "--output", folder, "--format", "json")
    assert json.loads(document) == json.loads(files[0].read_text())
    assert paths.splitlines()[-3:] == list(map(str, files))
