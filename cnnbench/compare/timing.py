"""Things timed in turns, so that whatever else the machine does meets all of them."""

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch

from cnnbench.compare.workload import synchronise

SHORTEST = 0.05  # seconds of one timing; runs that take less are repeated
LEAST_ROUNDS, MOST_ROUNDS = 7, 100
STABLE = 0.97  # warm when no timing falls below this share of the best before it
WARM_UP = 0.25  # of the time allowed, at most

Run = Callable[[], object]


@dataclass(frozen=True)
class Timings:
    """Seconds of one run.

    Attributes:
        wall: By the wall clock, (rounds, contestants).
        cpu: In processor time of all threads; None on an accelerator.
    """

    wall: np.ndarray
    cpu: np.ndarray | None


def interleaved(runs: Sequence[Run], device: torch.device, seconds: float, seed: int = 0) -> Timings:
    """Time each of some runs once a round, in random order, after a warm-up.

    Each is run before until its timings stop falling, and in a timing as often as makes 50 ms.

    Args:
        runs: The contestants.
        device: Where they compute.
        seconds: To stop after, with 7 rounds at least and 100 at most.
        seed: Of the order.
    """
    order = random.Random(seed)
    with _no_garbage_collection():
        fastest = min(_warm_up(runs, device, WARM_UP * seconds))
        repetitions = max(1, ceil(SHORTEST / fastest))
        rounds: list[np.ndarray] = []
        end = time.monotonic() + seconds
        while len(rounds) < LEAST_ROUNDS or (len(rounds) < MOST_ROUNDS and time.monotonic() < end):
            rounds.append(np.empty((len(runs), 2)))
            for contestant in order.sample(range(len(runs)), len(runs)):
                rounds[-1][contestant] = _timed(runs[contestant], device, repetitions)
    wall, cpu = np.moveaxis(np.array(rounds) / repetitions, 2, 0)
    return Timings(wall, cpu if device.type == "cpu" else None)


def _warm_up(runs: Sequence[Run], device: torch.device, seconds: float) -> np.ndarray:
    """Run until no timing falls any more; return the best of each."""
    end = time.monotonic() + seconds
    best = np.array([_timed(run, device, 1)[0] for run in runs])
    falling = True
    while falling and time.monotonic() < end:
        latest = np.array([_timed(run, device, 1)[0] for run in runs])
        falling = (latest < STABLE * best).any()
        best = np.minimum(best, latest)
    return best


def _timed(run: Run, device: torch.device, repetitions: int) -> tuple[float, float]:
    """Return the seconds by the wall clock and in processor time."""
    synchronise(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repetitions):
        run()
    synchronise(device)
    return time.perf_counter() - wall, time.process_time() - cpu


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect garbage now, and not at some contestant's cost."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
