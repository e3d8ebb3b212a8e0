"""`report.html` in a browser."""

import html
import json
import re

from chromium import browse, needs_chromium
from sample_reports import EVIL, equal_pair, report

from cnnbench.compare.report import document
from cnnbench.compare.report.page import page

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
    assert console == [] and len(found) == 15
    for column, (ascending, descending) in enumerate(found):
        for direction, values in (ascending, descending):
            known = [value for value in values if value is not None]
            assert values == known + [None] * (len(values) - len(known)), "empty cells stand last"
            keys = list(map(float, known)) if 2 < column < 14 else [natural(value) for value in known]
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
