"""What is claimed of timings whose truth is known, since they are made up."""

import numpy as np
import pytest

from cnnbench.compare.result import Estimate
from cnnbench.compare.statistics import UNDECIDED, estimate, verdict


def timings(rng, pairs, factors):
    """Seconds (pairs, 3) as a shared machine gives: drifting, noisy, with bursts of other people's work."""
    steps = 3 * pairs
    drift = np.exp(np.cumsum(rng.normal(0, 0.01, steps)) + 0.1 * np.sin(np.arange(steps) / rng.uniform(3, 40)))
    noise = np.exp(0.02 * rng.standard_t(2, steps))
    burst = 1 + rng.exponential(1, steps) * (rng.random(steps) < 0.1)
    slots = (drift * noise * burst).reshape(pairs, 3)
    order = rng.permuted(np.tile(np.arange(3), (pairs, 1)), axis=1)
    return np.take_along_axis(slots, order, 1) * factors


def called(rng, pairs, factors):
    ours, theirs, copy = timings(rng, pairs, factors).T
    return verdict(estimate(theirs / ours), estimate(theirs / copy))


@pytest.mark.parametrize("pairs", [7, 25])
def test_equal_networks_are_seldom_told_apart(pairs):
    """Each of the three also has a share of its own that stays, as where its tensors lie in memory gives it."""
    rng = np.random.default_rng(pairs)
    claims = sum(called(rng, pairs, np.exp(rng.normal(0, 0.003, 3))) != UNDECIDED for _ in range(300))
    assert claims <= 0.05 * 300


@pytest.mark.parametrize(("factor", "word"), [(1 / 1.3, "faster"), (1.3, "slower")])
def test_a_large_difference_is_seen(factor, word):
    rng = np.random.default_rng(0)
    found = [called(rng, 25, (factor, 1, 1)) for _ in range(50)]
    assert sum(f"x {word}, " in claim for claim in found) >= 45
    assert not any(("slower" if word == "faster" else "faster") in claim for claim in found)


def test_the_interval_covers_the_median():
    """Of a skewed distribution whose median is known."""
    rng = np.random.default_rng(0)
    found = [estimate(rng.exponential(1, 31)) for _ in range(200)]
    covered = sum(one.low <= np.log(2) <= one.high for one in found) / 200
    assert 0.90 <= covered <= 0.99
    assert all(one.low <= one.median <= one.high for one in found)


@pytest.mark.parametrize(
    ("speedup", "control", "words"),
    [
        ((1.07, 1.04, 1.10), (1.00, 0.98, 1.03), "ours 1.07x faster, interval 1.04-1.10, machine resolves 3 %"),
        ((0.8, 0.75, 0.9), (1.0, 0.95, 1.02), "ours 1.25x slower, interval 1.11-1.33, machine resolves 5.3 %"),
        ((1.07, 1.02, 1.10), (1.00, 0.98, 1.03), UNDECIDED),  # reaches into the control's interval
        ((1.07, 1.04, 1.10), (0.97, 0.95, 0.98), UNDECIDED),  # copies differ by as much the other way
        ((1.03, 1.01, 1.04), (1.06, 1.05, 1.08), UNDECIDED),  # apart from the control, yet nearer to 1
        ((0.97, 0.95, 1.01), (1.00, 0.99, 1.01), UNDECIDED),
        ((1.006, 1.004, 1.008), (1.0, 0.999, 1.001), UNDECIDED),  # no repetition averages out where tensors lie
    ],
)
def test_words(speedup, control, words):
    assert verdict(Estimate(*speedup), Estimate(*control)) == words
