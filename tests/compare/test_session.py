"""Sessions: from Python, in processes of their own, stopped and continued; the package that is a function."""

import inspect
import json
import pydoc
import subprocess
import sys
from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch
import user_nets
from stand_ins import COST, EQUAL, PARTED, SPEED
from torch import nn

import cnnbench
from cnnbench.compare.apart import Pair, compare_apart
from cnnbench.compare.pair import compare_specs
from cnnbench.compare.result import Comparison, Published
from cnnbench.compare.session import Watcher, compare_pairs
from cnnbench.compare.settings import Settings
from cnnbench.errors import UserError

PARITY = Settings(checks=("parity",))


@pytest.fixture
def checked(monkeypatch):
    """Parity that finds at once what `checked.finds` says, and the pairs that it was asked about."""
    asked = SimpleNamespace(pairs=[], finds=EQUAL)

    def check_parity(ours, theirs, size, *, seed=0, device="cpu"):
        asked.pairs.append((ours.label, theirs.label, size))
        return asked.finds() if callable(asked.finds) else asked.finds

    stand_in = SimpleNamespace(check_parity=check_parity)
    monkeypatch.setitem(sys.modules, "cnnbench.compare.parity", stand_in)
    return asked


def test_a_report_has_a_comparison_a_model(checked):
    report = cnnbench.compare("timm/lenet5", user_nets.small, nn.Flatten(), against="lenet5", checks=["parity"])
    assert not report.equal  # the second takes three channels, the third has 1024 classes
    lenet, small, flatten = report.comparisons
    assert (lenet.model, lenet.reference, lenet.parity) == ("timm/lenet5", "lenet5", EQUAL)
    assert small.error.startswith("small raises in forward on images of 1x32x32: RuntimeError: Given groups=1")
    assert flatten.error.startswith("Flatten has 1024 classes and lenet5 has 10 classes: give both the same")
    assert report.environment["seed"] == 0


def test_the_registry_tells_reference_year_and_accuracy(checked):
    (comparison,) = cnnbench.compare("resnet18", checks=["parity"]).comparisons
    info = cnnbench.model_info("resnet18")
    assert (comparison.reference, comparison.year, comparison.top1) == (info.reference, info.paper.year, info.top1)
    assert checked.pairs == [("resnet18", "timm/resnet18", (3, 128, 128))]


def test_settings_reach_the_sides_and_the_machine_is_left_as_it_was(checked):
    threads = torch.get_num_threads()
    seen = []
    checked.finds = lambda: seen.append(torch.get_num_threads()) or EQUAL
    options = {"image_size": 20, "num_classes": 7, "threads": threads + 1}
    report = cnnbench.compare(user_nets.small, against=user_nets.seven, checks=["parity"], **options)
    assert report.equal  # `seven` always has seven classes
    assert checked.pairs[0][2] == (3, 20, 20)
    assert seen == [threads + 1]
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "name at least one model"),
        ({"models": ["resnet18"], "checks": "parity"}, "must be a list"),
        ({"models": ["resnet18"], "checks": ["party"]}, "unknown check 'party'; did you mean 'parity'"),
        ({"models": ["resnet18"], "batch_size": 0}, "`batch_size` is 0"),
        ({"models": ["resnet18"], "image_size": (64, 64)}, r"`image_size` is \(64, 64\), but must be a whole number"),
        ({"models": ["resnet18"], "input_size": 64}, "unknown setting 'input_size'; did you mean 'image_size'"),
        ({"models": ["resnet18"], "checks": ["training"]}, "a recipe: `config=configs/resnet18.yaml`"),
        ({"models": [3]}, "3 is no network: give a name such as 'resnet50'"),
        ({"models": [nn.Flatten()]}, "Flatten has no reference of its own: name one with `against`"),
        ({"models": [nn.Flatten(), nn.ReLU()]}, r"Flatten and ReLU have no references .* compare\(a, against=b\)"),
    ],
)
def test_mistakes_in_python(arguments, message):
    with pytest.raises(UserError, match=message):
        cnnbench.compare(*arguments.pop("models", ()), **arguments)


def test_a_mistake_keeps_what_was_found_before_it(checked, monkeypatch):
    def measure_cost(ours, theirs, size):
        raise UserError("cannot be counted")

    monkeypatch.setitem(sys.modules, "cnnbench.compare.cost", SimpleNamespace(measure_cost=measure_cost))
    comparison = compare_specs("lenet5", None, Settings(checks=("cost", "parity")))
    assert (comparison.parity, comparison.error) == (EQUAL, "cannot be counted")


def test_a_stopped_session_goes_on_where_it_was(checked, tmp_path):
    pairs = [Pair(name, "lenet5") for name in ("lenet5", "timm/lenet5", "cnnbench/lenet5")]

    def stop_at_the_second():
        if len(checked.pairs) == 2:
            raise KeyboardInterrupt
        return PARTED

    checked.finds = stop_at_the_second
    with pytest.raises(KeyboardInterrupt, match=f"1 of 3 models are kept in {tmp_path}"):
        compare_pairs(pairs, PARITY, apart=False, output=tmp_path)
    checked.finds = EQUAL
    checked.pairs.clear()
    begun = []
    watcher = Watcher()
    watcher.begins = lambda total, kept: begun.append((total, kept))
    comparisons = compare_pairs(pairs, PARITY, apart=False, output=tmp_path, watcher=watcher)
    assert begun == [(3, 1)]
    assert [ours for ours, _, _ in checked.pairs] == ["timm/lenet5", "cnnbench/lenet5"]
    assert [comparison.model for comparison in comparisons] == ["lenet5", "timm/lenet5", "cnnbench/lenet5"]
    assert comparisons[0].parity == PARTED  # what the first session found


def test_other_settings_and_own_networks_are_compared_anew(checked, tmp_path):
    pairs = [Pair("lenet5"), Pair("user_nets:small", "user_nets:small"), Pair("lenet6")]
    for settings, asked in ((PARITY, 2), (PARITY, 1), (Settings(checks=("parity",), seed=1), 2)):
        checked.pairs.clear()
        compare_pairs(pairs, settings, apart=False, output=tmp_path)
        assert len(checked.pairs) == asked


def test_a_file_that_is_not_whole_is_named(checked, tmp_path):
    compare_pairs([Pair("lenet5")], PARITY, apart=False, output=tmp_path)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(json.dumps({"model": "resnet18"}))
    with pytest.raises(UserError, match=f"{path} is no comparison that was kept: remove it"):
        compare_pairs([Pair("lenet5")], PARITY, apart=False, output=tmp_path)


def test_a_process_that_dies_costs_its_row():
    comparison = compare_apart(Pair("user_nets:killed", "lenet5"), PARITY)
    error = "killed: out of memory? (building)"
    assert comparison == Comparison("user_nets:killed", "lenet5", error=error)


def test_a_process_that_is_killed_while_it_measures_is_followed_by_one_with_half_the_images(monkeypatch, capsys):
    """The worker is a stand-in: memory cannot be filled in a test."""
    from cnnbench.compare import apart

    class Killed:
        process = SimpleNamespace(exitcode=-9)

        def __init__(self, pair, settings, begun, directory, wandb):
            self.settings, self.known, self.doing = settings, begun or Comparison(pair.model, "", cost=COST), "speed"

        def follow(self, tell):
            if self.settings.batch_size == 2:
                self.doing, self.known = "done", Comparison("resnet18", "", cost=self.known.cost, speed=SPEED)

        def end(self):
            pass

    monkeypatch.setattr(apart, "_Worker", Killed)
    found = compare_apart(Pair("resnet18"), Settings(checks=("cost", "speed")))
    assert (found.cost, found.speed, found.error) == (COST, SPEED, None)
    said = capsys.readouterr().err.splitlines()
    assert said == [f"resnet18: {n} images at a time do not fit into memory; on with {n // 2}" for n in (8, 4)]


ORDERS = (
    "import cnnbench; f = cnnbench.compare; import cnnbench.compare.result; assert f is cnnbench.compare",
    "import cnnbench.compare.result; import cnnbench",
    "from cnnbench import compare; import cnnbench.compare.result, cnnbench; assert compare is cnnbench.compare",
    "from cnnbench.compare.result import Report; from cnnbench.compare import failure; import cnnbench",
)


@pytest.mark.parametrize("order", ORDERS)
def test_the_package_is_a_function_in_every_order_of_import(order):
    code = f"{order}\nassert callable(cnnbench.compare) and cnnbench.compare.result.Report"
    subprocess.run([sys.executable, "-c", f"{code}\nassert 'torch' not in __import__('sys').modules"], check=True)


def test_a_lone_mistake_is_raised():
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        cnnbench.compare("resnet81", checks=("cost",))
    with pytest.raises(UserError, match="unknown setting 'check'; did you mean 'checks'"):
        cnnbench.compare("lenet5", check=("parity",))


def test_help_and_signature_tell_what_can_be_set():
    signature = inspect.signature(cnnbench.compare)
    given = {name: parameter.default for name, parameter in signature.parameters.items()}
    assert list(given)[:3] == ["models", "against", "checks"]
    assert {name: default for name, default in given.items() if name not in ("models", "against", "checks")} == {
        item.name: item.default for item in fields(Settings) if item.name != "checks"
    }
    shown = pydoc.plain(pydoc.render_doc(cnnbench.compare))
    for said in ("cnnbench.compare(my_network, against=", "checks: Of ", "batch_size=8", "UserError: "):
        assert said in shown


def test_a_report_prints_as_in_the_terminal(checked):
    report = cnnbench.compare("timm/lenet5", nn.Flatten(), against="lenet5", checks=["parity"])
    lenet, flatten = report.comparisons
    assert str(lenet).splitlines()[0].split() == ["lenet5", "timm", "against", "lenet5", "EQUAL"]
    assert str(lenet).splitlines()[1] == "  weights     320 of 320 tensors, same keys"
    assert str(flatten).splitlines()[0].endswith("FAILED")
    blocks = str(report).split("\n\n")
    assert blocks[:2] == [str(lenet), str(flatten)]
    assert [line.split() for line in blocks[2].splitlines()] == [
        ["model", "equal"],
        ["timm/lenet5", "yes"],
        ["Flatten", "failed"],
    ]


def test_papers_are_quoted_of_their_own_size_only(checked):
    whole, small = (cnnbench.compare("resnet101", checks=["parity"], **size) for size in ({}, {"image_size": 64}))
    assert whole.comparisons[0].published == Published(76.4, None, 7.6e9)
    assert small.comparisons[0].published is None


def test_a_name_that_is_wrong_needs_no_process(monkeypatch):
    monkeypatch.setattr("cnnbench.compare.apart._Worker", None)
    for pair in (Pair("resnt50"), Pair("resnet50", "timm/resnt50"), Pair("timm/resnet50")):
        assert compare_apart(pair, Settings(checks=("speed",))).error is not None
