"""Images a second of our pipelines beside torchvision's and timm's, in processor time of this process.

Every pipeline crops at random, flips, and normalises, and nothing else. Rounds are interleaved: in each, all pipelines
load the same images once, in random order, and ours once more, as a control: the resolution of this machine.
"""

import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from cnnbench.statistics import median_interval

STAGES = ("read", "decode", "crop", "augment", "collate", "transfer", "loader")
CONTROL = "ours again"


class Clock:
    """Charges the processor time since it was last asked to a stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = time.process_time()

    def __call__(self, stage: str) -> None:
        """End a stage."""
        now = time.process_time()
        self.seconds[stage] += now - self._last
        self._last = time.process_time()


Pipeline = Callable[[Clock], int]
"""Loads its images once, ends each of its stages on the clock, and returns how many images there were."""


@dataclass
class Rates:
    """Images a second in each round: by pipeline and stage, and as a whole under `total`."""

    of: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def add(self, name: str, images: int, seconds: dict[str, float]) -> None:
        """Add one round of a pipeline."""
        for stage, spent in (seconds | {"total": sum(seconds.values())}).items():
            self.of[name][stage].append(images / max(spent, 1e-9))

    def interval(self, name: str, stage: str = "total") -> tuple[float, float, float]:
        """Return the median rate and its 95 % interval."""
        rates = self.of[name][stage]
        return float(np.median(rates)), *median_interval(rates)

    def ratio(self, name: str) -> tuple[float, float, float]:
        """Return how many times as fast ours is as another: the median of the rounds' ratios and its interval."""
        ratios = np.array(self.of["ours"]["total"]) / np.array(self.of[name]["total"])
        return float(np.median(ratios)), *median_interval(ratios)


def measure(pipelines: dict[str, Pipeline], rounds: int) -> Rates:
    """Run some pipelines, interleaved, after one round to warm up.

    Args:
        pipelines: By name; one is `ours`, which also runs as its own control.
        rounds: At least one.
    """
    contestants = pipelines | {CONTROL: pipelines["ours"]}
    rates = Rates()
    for round_number in range(rounds + 1):
        for name in random.sample(sorted(contestants), len(contestants)):
            clock = Clock()
            images = contestants[name](clock)
            if round_number:
                rates.add(name, images, clock.seconds)
    return rates


def stages_of(rates: Rates) -> list[str]:
    """Return the stages that pipelines have, in order; and, if there is more than one, `total`."""
    known = [stage for stage in STAGES if any(stage in of_one for of_one in rates.of.values())]
    return [*known, "total"] if len(known) > 1 else known
