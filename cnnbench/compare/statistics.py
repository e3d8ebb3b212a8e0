"""From timings to words: what a set of paired ratios claims, and what it does not."""

from collections.abc import Sequence

import numpy as np

from cnnbench.compare.result import Estimate
from cnnbench.statistics import median_interval

FINEST = 0.01  # copies of one network differ by where their tensors lie in memory, which no repetition averages out
UNDECIDED = "no difference this machine resolves"


def estimate(values: Sequence[float] | np.ndarray, seed: int = 0) -> Estimate:
    """Return the median of some measurements and its bootstrap 95 % interval.

    Args:
        values: At least one, such as ratios of paired timings.
        seed: Of the bootstrap's draws.
    """
    return Estimate(float(np.median(values)), *median_interval(values, seed))


def resolution(control: Estimate) -> float:
    """Return the smallest difference, as a share, that a machine can tell: how far its control's interval is from 1.

    The farther end counts for both directions, since what throws a copy off to one side may throw it to the other; and
    it is 1 % at least.

    Args:
        control: Ratios of a network's timings to those of its own copy.
    """
    return max(control.high, 1 / control.low, 1 + FINEST) - 1


def verdict(speedup: Estimate, control: Estimate) -> str:
    """Say which side is faster, if this machine can tell.

    A difference is claimed only if the whole interval of the speedup lies on one side of 1 and beyond the `resolution`
    r of the machine: its low end above 1 + r, or its high end below 1 / (1 + r). So no claim is ever made within the
    control's interval, nor within its reflection on the other side of 1.

    Args:
        speedup: Their time over ours.
        control: Their time over that of their own copy, timed in the same rounds.

    Returns:
        Such as "ours 1.07x faster, interval 1.04-1.10, machine resolves 3 %", or "no difference this machine resolves".
    """
    resolved = resolution(control)
    if speedup.low > 1 + resolved:
        factors, word = (speedup.median, speedup.low, speedup.high), "faster"
    elif speedup.high < 1 / (1 + resolved):
        factors, word = (1 / speedup.median, 1 / speedup.high, 1 / speedup.low), "slower"
    else:
        return UNDECIDED
    factor, low, high = (f"{value:.2f}" for value in factors)
    percent = f"{100 * resolved:.1f}".removesuffix(".0")
    return f"ours {factor}x {word}, interval {low}-{high}, machine resolves {percent} %"
