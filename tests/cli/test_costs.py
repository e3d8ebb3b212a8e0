"""The kept parameters and multiply-adds: they are those of the networks, and whatever else differs is counted."""

from collections import defaultdict
from dataclasses import replace

import pytest

from cnnbench.cli.common import costs
from cnnbench.cli.common.costs import cost, count, key, stored
from cnnbench.cli.main import main
from cnnbench.models import list_models, model_info, registry

ANEW = "`make costs` counts the models anew"


def smallest() -> list[str]:
    """Return two models a paper, those that cost least."""
    papers = defaultdict(list)
    for name, *_ in stored():
        papers[model_info(name).paper].append(name)
    return [name for names in papers.values() for name in sorted(names, key=lambda name: cost(name).macs)[:2]]


@pytest.mark.parametrize("name", smallest())
def test_kept_costs_are_right(name):
    assert cost(name) == count(name), ANEW


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({row[0] for row in stored()} - {*smallest()}))
def test_all_kept_costs_are_right(name):
    assert cost(name) == count(name), ANEW


def test_every_row_is_of_a_model_as_it_is_built_now():
    assert [row for row in stored() if row[0] not in list_models() or row != key(row[0])] == [], ANEW


def test_the_listing_counts_no_model_of_ours(monkeypatch, capsys):
    """So that it answers at once; a time is not asserted, since a machine may be slow."""
    monkeypatch.setattr(costs, "count", lambda *args: pytest.fail(f"{args} was counted"))
    assert main(["models"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(list_models())


@pytest.mark.parametrize(
    "change",
    [
        {"kwargs": {"channel_multiplier": 0.5}},
        {"network": model_info("mobilenetv2_100").network},
        {"pretrained_cfg": {"input_size": (3, 192, 192)}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_model_that_is_built_otherwise_is_counted(monkeypatch, change):
    info = model_info("mobilenetv1_100")
    monkeypatch.setitem(registry._models, info.name, replace(info, **change))
    monkeypatch.setattr(costs, "count", lambda *args: "counted")
    assert cost("mobilenetv1_100") == "counted"
    assert cost("mobilenetv2_100") != "counted"


def test_another_library_s_model_is_counted(monkeypatch):
    monkeypatch.setattr(costs, "count", lambda *args: args)
    assert cost("resnet18", "timm") == ("resnet18", "timm")
