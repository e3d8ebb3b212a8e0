"""`report.html`, without a browser."""

import html
import re
import sys
from dataclasses import replace

import matplotlib
import pytest
from html_elements import Elements
from sample_reports import EVIL, contest, equal_pair, report, trained_pair, unequal_pair

from cnnbench.compare.report.page import page
from cnnbench.compare.result import Report, StageCost


def test_sections_come_in_order(everything):
    assert Elements(everything[1]).headings == [
        *("All pairs", "Speed", "As served", "Cost and published accuracy", "Training duels", "Where they part"),
        *("Cost by stage", "Environment", "Command"),
    ]


def test_sections_without_data_are_left_out():
    bare = replace(equal_pair(), cost=None, speed=None, memory=None)
    text = page(Report({}, None, [bare]))
    assert Elements(text).headings == ["The pair"]
    assert "GMACs" not in text and "Train step" not in text  # nor columns
    assert Elements(page(Report({}, None, []))).headings == []


def test_where_they_part_is_told_in_full():
    text = page(report(unequal_pair()))
    words = html.unescape(re.sub(r"<[^>]*>", "", text))
    for said in (
        "layer2.0.conv1 (theirs: stages.1.conv1), in evaluation mode",
        "stride (2, 2), theirs (1, 1)",
        "inputs agree to 1e-16, outputs differ by 0.38",
        "77 of 161 tensors",
        "logits inf, features 0.41, buffers 0.2; tolerance 1e-10",
        "160 tensors matched by data flow, of 161 (ours) and 160 (theirs)",
        "ours has extra.weight (512, 512), theirs has nothing of this shape",
        "Red: the first divergence.",
    ):
        assert said in words, said
    assert "shows in training only" not in words
    assert "shows in training only" in page(report(unequal_pair(mode="train")))


def test_ids_of_inline_figures_do_not_clash(everything):
    elements = Elements(everything[1])
    ids = elements.values("id")
    assert len(ids) == len(set(ids)) > 100
    links = [link.removeprefix("#") for link in elements.values("href")]
    links += re.findall(r"url\(#([^)]*)\)", everything[1])
    assert links and set(links) <= set(ids)


def test_the_page_names_nothing_to_load(everything):
    elements = Elements(everything[1])
    assert not {tag for tag, _ in elements.all} & {"link", "img", "iframe", "image", "object", "embed", "base"}
    assert not elements.values("src") and "@import" not in everything[1] and "http://" not in everything[1]
    assert all(link.startswith("#") for link in elements.values("href"))


def test_figures_and_tables_speak_to_screen_readers(everything):
    elements = Elements(everything[1])
    figures = [attributes for tag, attributes in elements.all if tag == "svg"]
    assert len(figures) == 8  # twice two ratio plots, two of cost, a duel, the layers
    assert all(figure["role"] == "img" and figure["aria-label"] for figure in figures)
    tags = [tag for tag, _ in elements.all]
    stages = tags.count("details")
    assert stages == 67  # of every pair but the one that failed
    assert tags.count("table") == tags.count("caption") == 4 + stages
    assert all(attributes.get("scope") for tag, attributes in elements.all if tag == "th")


def test_page_is_the_same_whatever_the_users_matplotlib_is_set_to(monkeypatch):
    made = report(trained_pair(), unequal_pair())
    usual = page(made)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # its import would fail
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        before = matplotlib.rcParams.copy()
        assert page(made) == usual
        assert dict(matplotlib.rcParams.copy()) == dict(before)


@pytest.mark.filterwarnings("error")
def test_odd_figures_are_drawn():
    pair = trained_pair("模型\n\x00")
    lost = [float("nan"), float("inf"), 1.0]
    duel = replace(pair.training.duels[0], losses=(lost, [1.0, 2.0, 1.0, 0.5]))
    one = replace(pair, training=replace(pair.training, duels=[duel]), top1=None)
    slow = replace(pair, speed=replace(pair.speed, forward=contest(40.0), train_step=contest(0.02, 0.001)))
    assert page(report(one, slow, replace(pair, reference="x" * 200))).count("<svg") == 7


def test_markup_in_names_stays_text(evil_page):
    elements = Elements(evil_page)
    assert [tag for tag, _ in elements.all].count("script") == 1
    assert "alert(1)</script>" not in evil_page
    assert EVIL in elements.values("data-value")


def test_cost_by_stage_is_folded_away():
    pair = equal_pair()
    stages = [StageCost("stem", 1234, 5_678_000, 91), StageCost("head", 43, 21_000, 10)]
    theirs = replace(pair.cost.theirs, stages=stages)
    text = page(report(replace(pair, cost=replace(pair.cost, theirs=theirs))))
    (folded,) = re.findall(r"<details>(.*?)</details>", text, re.DOTALL)
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t", folded)
    assert "<summary>resnet18 against timm/resnet18</summary>" in folded
    assert cells[5:] == [
        *("ours", "stem", "1", "2", "3"),
        *("theirs", "stem", "1,234", "5,678,000", "91"),
        *("", "head", "43", "21,000", "10"),
    ]


def test_published_figures_are_marked_where_they_differ():
    text = page(report(unequal_pair()))
    assert re.findall(r'<td class="([^"]*)" data-value="([^"]*)">70.5', text) == [("text off", "70.5, 1.01M, 1.05G*")]


def test_notes_are_told():
    pair = equal_pair()
    noted = replace(pair, parity=replace(pair.parity, notes=["ours returns a tuple of one, theirs a tensor"]))
    assert "<p>Note: ours returns a tuple of one, theirs a tensor.</p>" in page(report(noted))
