"""The sentences of the report."""

from dataclasses import replace

import numpy as np
import pytest
from sample_reports import contest, equal_pair, failed_pair, report, trained_pair, unequal_pair

from cnnbench.compare.report.page import page
from cnnbench.compare.report.values import error_text, faster, memory_text
from cnnbench.compare.report.words import headline, table_caption
from cnnbench.compare.result import Comparison, Estimate, Memory
from cnnbench.compare.statistics import verdict


def trained(alike):
    """A pair that was trained, and nothing else."""
    pair = trained_pair()
    duels = [replace(duel, first_different_step=None) if alike else duel for duel in pair.training.duels]
    return Comparison(pair.model, pair.reference, training=replace(pair.training, duels=duels))


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
        ([trained(True)], "resnet34 and timm/resnet34 were trained with identical losses"),
        ([trained(False)], "resnet34 and timm/resnet34 were trained, and their losses differ"),
        (
            [trained(True), trained(False), failed_pair()],
            "2 of 3 pairs were trained, 1 with identical losses, 1 could not be compared",
        ),
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


MIB = 2**20


@pytest.mark.parametrize(
    ("ours", "theirs", "shown"),
    [
        (4.95 * MIB, 5.05 * MIB, ("4.95", "5.05", "MiB")),
        (5.0 * MIB, 5.001 * MIB, ("5.00", "5.00", "MiB")),
        (100.4 * MIB, 99.6 * MIB, ("100.4", "99.6", "MiB")),  # a ratio of 1.01
        (921 * MIB, 921 * MIB, ("921", "921", "MiB")),
        (1.92 * 1024 * MIB, 1.921 * 1024 * MIB, ("1.92", "1.92", "GiB")),
        (4096, 4096, ("0.00", "0.00", "MiB")),
    ],
)
def test_sizes_show_what_their_ratio_says(ours, theirs, shown):
    assert memory_text(Memory(int(ours), int(theirs), 8)) == shown


def test_the_caption_tells_only_of_columns_that_are_there():
    pair = equal_pair()
    assert table_caption([replace(pair, speed=None, memory=None)]) == (
        "1 pair, ours against theirs. Click a head to sort by it."
    )
    assert "Above 1 in memory it needs more." in table_caption([replace(pair, speed=None)])
    assert "Above 1 in speed ours is faster, above 1 in memory" in table_caption([pair, pair])
    assert "* as its authors state it" in table_caption([unequal_pair()])
