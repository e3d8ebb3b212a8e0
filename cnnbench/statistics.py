"""What a handful of measurements says about their median."""

from collections.abc import Sequence

import numpy as np

DRAWS = 10_000


def median_interval(values: Sequence[float] | np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of the median.

    Args:
        values: Independent measurements of one thing, such as ratios of paired timings.
        seed: Of the draws.
    """
    draws = np.random.default_rng(seed).choice(np.asarray(values), (DRAWS, len(values)))
    low, high = np.quantile(np.median(draws, 1), (0.025, 0.975))
    return float(low), float(high)
