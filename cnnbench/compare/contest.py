"""Two networks and a control timed against each other."""

from collections.abc import Sequence

import numpy as np

from cnnbench.compare.result import Contest, Estimate
from cnnbench.compare.settings import Settings
from cnnbench.compare.statistics import estimate, verdict
from cnnbench.compare.timing import interleaved
from cnnbench.compare.workload import Workload


def contest(contestants: Sequence[Workload], kind: str, settings: Settings) -> Contest:
    """Time ours, theirs and a copy of theirs in turns.

    Args:
        contestants: These three, each with the same images.
        kind: "forward" or "train_step".
        settings: Of which seconds and seed count.
    """
    timings = interleaved(
        [one.ready(kind) for one in contestants], contestants[0].device, settings.seconds, settings.seed
    )
    speedup, control = _against_theirs(timings.wall)
    cpu_speedup, cpu_control = (None, None) if timings.cpu is None else _against_theirs(timings.cpu)
    ours, theirs, _ = len(contestants[0].images) / np.median(timings.wall, axis=0)
    return Contest(
        speedup=speedup,
        control=control,
        cpu_speedup=cpu_speedup,
        cpu_control=cpu_control,
        images_per_second=(float(ours), float(theirs)),
        pairs=len(timings.wall),
        verdict=verdict(speedup, control),
    )


def _against_theirs(seconds: np.ndarray) -> tuple[Estimate, Estimate]:
    ours, theirs, copy = seconds.T
    return estimate(theirs / ours), estimate(theirs / copy)
