import csv
import html
import io
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from chromium import browse, needs_chromium
from sample_reports import EVIL, contest, equal_pair, failed_pair, leaderboard, report, trained_pair, unequal_pair

from cnnbench.compare.report import document, write_report
from cnnbench.compare.report.flat import flat
from cnnbench.compare.report.page import page
from cnnbench.compare.report.values import error_text, faster
from cnnbench.compare.report.words import headline
from cnnbench.compare.result import Estimate, Report, from_json
from cnnbench.compare.statistics import verdict


class Elements(HTMLParser):
    """Elements of a page: (tag, attributes) in their order, and the text of the headings."""

    def __init__(self, text):
        super().__init__()
        self.all, self.headings, self._open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data):
        if self._open == "h2":
            self.headings.append(data)
            self._open = None

    def values(self, name):
        return [attributes[name] for _, attributes in self.all if name in attributes]


@pytest.fixture(scope="module")
def everything():
    """A report with every part, and its page."""
    made = leaderboard()
    return made, page(made)


@pytest.fixture(scope="module")
def evil_page():
    """The page of a report in which every text is `EVIL`."""
    parity = unequal_pair().parity
    layers = [replace(layer, module=EVIL) for layer in parity.layers]
    divergence = replace(parity.first_divergence, module=EVIL, reference_module=EVIL, cause=EVIL)
    weights = replace(parity.weights, method=EVIL, differences=[EVIL])
    parity = replace(parity, layers=layers, first_divergence=divergence, weights=weights)
    trained = trained_pair(EVIL)
    contests = {
        name: replace(getattr(trained.speed, name), verdict=EVIL)
        for name in ("forward", "train_step", "served_contest")
    }
    served = tuple(replace(side, options=EVIL) for side in trained.speed.served)
    metrics = [replace(metric, name=EVIL) for metric in trained.training.metrics]
    training = replace(trained.training, config=EVIL, verdict=EVIL, metrics=metrics)
    trained = replace(trained, speed=replace(trained.speed, served=served, **contests), training=training)
    failed = replace(failed_pair(EVIL), error=EVIL)
    made = report(replace(unequal_pair(EVIL), parity=parity), trained, failed, command=EVIL)
    return page(replace(made, environment={EVIL: EVIL, "versions": {EVIL: EVIL}}))


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


# --- report.json


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


# --- report.csv


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
    assert rows[3]["training_first_different_step"] == "11"
    assert float(rows[3]["training_largest_difference"]) == 1e-7
    assert {key for key, value in rows[2].items() if value} == {"model", "reference", "status", "error", "year"}


# --- the files


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


# --- words


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([equal_pair()], "resnet18 and timm/resnet18 are equal"),
        ([unequal_pair()], "resnet50 and timm/resnet50 are not equal"),
        ([failed_pair()], "convnext_large and timm/convnext_large could not be compared"),
        ([equal_pair("a"), equal_pair("b")], "2 of 2 pairs are equal"),
        ([equal_pair(), unequal_pair(), failed_pair()], "1 of 3 pairs is equal, 1 is not, 1 could not be compared"),
        ([equal_pair(), replace(equal_pair(), parity=None)], "1 of 1 pairs is equal"),
        ([replace(equal_pair(), parity=None)] * 2, "2 pairs were measured, not checked for equality"),
        ([], "Nothing was compared"),
    ],
)
def test_headline(pairs, words):
    assert headline(pairs) == words


def test_other_random_draws_are_told_of_equal_pairs_too():
    pair = equal_pair()
    apart = replace(pair, parity=replace(pair.parity, same_random_draws=False))
    told = "draws other numbers under one seed: resnet18 against timm/resnet18."
    assert told in page(report(apart, unequal_pair())) and told not in page(report(pair))


@pytest.mark.parametrize(
    ("error", "text"), [(0.0, "0"), (3.4e-16, "3e-16"), (1.2e-8, "1e-8"), (0.3812, "0.38"), (float("inf"), "inf")]
)
def test_errors_read_as_in_the_terminal(error, text):
    assert error_text(error) == text


def test_plots_claim_what_the_verdict_claims():
    rng = np.random.default_rng(0)
    said = {"faster": "ours", "slower": "theirs"}
    claims = []
    for _ in range(300):
        median, width = rng.normal(1, 0.06), rng.uniform(0, 0.04)
        speedup = Estimate(median, median - width, median + width)
        median, width = rng.normal(1, 0.01), rng.uniform(0, 0.05)
        same = Estimate(median, median - width, median + width)
        claim = next((side for word, side in said.items() if word in verdict(speedup, same)), None)
        assert faster(replace(contest(1.0), speedup=speedup, control=same)) == claim
        claims.append(claim)
    assert {"ours", "theirs", None} == set(claims)


# --- report.html, without a browser


def test_sections_come_in_order(everything):
    assert Elements(everything[1]).headings == [
        *("All pairs", "Speed", "As served", "Cost and published accuracy", "Training duels", "Where they part"),
        *("Environment", "Command"),
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
    assert tags.count("table") == tags.count("caption") == 4
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


# --- report.html, in a browser

ROWS = "[...document.querySelectorAll('#pairs tbody tr')]"
OVERVIEW = f"""{{
    rows: {ROWS}.map(row => [...row.cells].map(cell => cell.dataset.value ?? null)),
    heads: [...document.querySelectorAll('#pairs th[aria-sort]')].map(head => head.textContent),
    empty: [...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().height < 50).length,
    loaded: performance.getEntriesByType('resource').map(entry => entry.name),
    title: document.title,
    headline: document.querySelector('h1').textContent,
}}"""
PATHS = {
    "Model": "model",
    "Reference": "reference",
    "Logits": "parity.max_relative_error.logits",
    "Features": "parity.max_relative_error.features",
    "Gradients": "parity.max_relative_error.gradients",
    "Buffers": "parity.max_relative_error.buffers",
    "Parameters": "cost.ours.parameters",
    "GMACs": "cost.ours.macs",
    "Forward": "speed.forward.speedup.median",
    "Train step": "speed.train_step.speedup.median",
    "Year": "year",
    "Top-1 %": "top1",
}


def follow(value, path):
    for name in path.split("."):
        value = None if value is None else value[name]
    return value


@needs_chromium
def test_browser_shows_the_numbers_of_the_json_and_loads_nothing(everything, tmp_path):
    found, console = browse(everything[1], tmp_path, OVERVIEW)
    assert console == [] and found["loaded"] == [] and found["empty"] == 0
    assert found["headline"] == "66 of 68 pairs are equal, 1 is not, 1 could not be compared"
    pairs = json.loads(document(everything[0]))["comparisons"]
    assert len(found["rows"]) == len(pairs) == 68
    for cells, pair in zip(found["rows"], pairs, strict=True):
        shown = dict(zip(found["heads"], cells, strict=True))
        for title, path in PATHS.items():
            value = follow(pair, path)
            text = shown[title] and shown[title].replace("Infinity", "inf")
            assert text == value if value is None or isinstance(value, str) else float(text) == value, title


SORTED = f"""[...document.querySelectorAll('#pairs th[aria-sort]')].map((head, column) => [1, 2].map(() => {{
    head.querySelector('button').click();
    return [head.getAttribute('aria-sort'), {ROWS}.map(row => row.cells[column].dataset.value ?? null)];
}}))"""


@needs_chromium
def test_browser_sorts_by_every_column_both_ways(everything, tmp_path):
    found, console = browse(everything[1], tmp_path, SORTED)
    assert console == [] and len(found) == 14
    for column, (ascending, descending) in enumerate(found):
        for direction, values in (ascending, descending):
            known = [value for value in values if value is not None]
            assert values == known + [None] * (len(values) - len(known)), "empty cells stand last"
            keys = list(map(float, known)) if column > 2 else [natural(value) for value in known]
            assert keys == sorted(keys, reverse=direction == "descending")
        assert [ascending[0], descending[0]] == ["ascending", "descending"]
    parameters = [value for value in found[7][0][1] if value is not None]
    assert parameters != sorted(parameters)  # as text 10000027 stands before 2000003


def natural(text):
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


@needs_chromium
def test_browser_takes_markup_in_names_for_text(evil_page, tmp_path):
    script = f"""{{
        scripts: document.scripts.length,
        names: {ROWS}.map(row => row.cells[0].textContent),
        drawn: [...document.querySelectorAll('svg text')].map(text => text.textContent),
        told: [...document.querySelectorAll('svg use title')].map(text => text.textContent),
        command: document.querySelector('pre').textContent,
    }}"""
    found, console = browse(evil_page, tmp_path, script)
    assert console == []
    assert found["scripts"] == 2  # the page's and this one
    assert found["names"] == [EVIL] * 3 and found["command"] == EVIL
    assert EVIL in found["drawn"] and any(EVIL in told for told in found["told"])


@needs_chromium
def test_browser_refuses_what_the_page_did_not_bring(tmp_path):
    strange = "<script>document.title = 'taken'</script><img src='https://example.org/x.png'></main>"
    found, console = browse(page(report(equal_pair())).replace("</main>", strange), tmp_path, "document.title")
    assert found != "taken"
    assert len(console) == 2 and all("Content Security Policy" in line for line in console)


PHONE = """(() => {
    const root = document.querySelector('iframe').contentDocument.documentElement;
    const tables = [...root.querySelectorAll('table')].map(table => table.closest('.box'));
    return {
        page: [root.scrollWidth, root.clientWidth],
        boxes: tables.map(box => box.getBoundingClientRect().right),
        inside: tables.map(box => box.scrollWidth > box.clientWidth),
    };
})()"""


@needs_chromium
def test_browser_keeps_wide_tables_in_their_boxes_on_a_phone(everything, tmp_path):
    frame = f'<iframe style="width: 390px; height: 800px; border: 0" srcdoc="{html.escape(everything[1])}"></iframe>'
    outer = f"<!doctype html><body>{frame}<script>onload = () => SCRIPT</script></body>"
    script = f"document.documentElement.setAttribute('data-found', JSON.stringify({PHONE}))"
    found, console = browse(outer.replace("SCRIPT", script), tmp_path)
    wide, room = found["page"]
    assert console == [] and wide == room <= 390
    assert max(found["boxes"]) <= room and found["inside"][0]
