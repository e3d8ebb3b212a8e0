"""Verdicts on networks whose speed is known, by a clock that the test keeps; and that every setting is honoured."""

import logging
import random
import re

import pytest
import torch
from torch import nn

from cnnbench.compare import speed, timing
from cnnbench.compare.settings import Settings
from cnnbench.compare.sides import Side
from cnnbench.compare.speed import measure_speed
from cnnbench.compare.statistics import UNDECIDED
from cnnbench.compare.timing import LEAST_ROUNDS, MOST_ROUNDS, interleaved
from cnnbench.errors import UserError

IMAGE = (3, 4, 4)
CPU = torch.device("cpu")


class Clock:
    """Stands for `time`: it moves where a network says so, noisily, and a little whenever it is read."""

    def __init__(self):
        self.now, self.noise = 0.0, random.Random(0)

    def __deepcopy__(self, memo):
        return self

    def wait(self, seconds):
        self.now += seconds * self.noise.lognormvariate(0, 0.02)

    def perf_counter(self):
        self.now += 1e-6
        return self.now

    process_time = monotonic = perf_counter


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    for module in (speed, timing):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def instant(monkeypatch):
    """For networks that do not move the clock: few repetitions are enough."""
    monkeypatch.setattr(timing, "SHORTEST", 1e-6)
    return {"seconds": 2e-4}


class Waits(nn.Module):
    """A network that takes so many seconds, and as many more for each image."""

    def __init__(self, clock, seconds=0.1, an_image=0.0):
        super().__init__()
        self.clock, self.seconds, self.an_image, self.fc = clock, seconds, an_image, nn.Linear(48, 5)

    def forward(self, x):
        self.clock.wait(self.seconds + self.an_image * len(x))
        return self.fc(x.flatten(1))


def compared(ours, theirs=None, **settings):
    settings = Settings(**{"seconds": 5, "batch_size": 4} | settings)
    return measure_speed(Side("ours", ours), Side("theirs", theirs or ours), IMAGE, settings)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (0.1, 0.3, r"ours (2\.9|3\.0)\dx faster"),
        (0.3, 0.1, r"ours (2\.9|3\.0)\dx slower"),
        (0.1, 0.11, r"ours 1\.(08|09|10|11|12)x faster"),
        (0.1, 0.101, UNDECIDED),
        (0.1, 0.1, UNDECIDED),
    ],
)
def test_verdicts(clock, ours, theirs, words):
    found = compared(lambda: Waits(clock, ours), lambda: Waits(clock, theirs))
    assert found.batch_size == 4 and found.served is None and found.served_contest is None
    for contest in (found.forward, found.train_step):
        assert re.match(words, contest.verdict)
        assert contest.speedup.median == pytest.approx(theirs / ours, rel=0.05)
        assert contest.cpu_speedup.median == pytest.approx(theirs / ours, rel=0.05)
        assert contest.control.low <= 1 <= contest.control.high
        assert contest.images_per_second == pytest.approx((4 / ours, 4 / theirs), rel=0.05)
        assert LEAST_ROUNDS <= contest.pairs <= MOST_ROUNDS


def test_drift_is_no_difference(clock):
    """A machine that gets slower and slower."""

    class Drifts(Waits):
        def forward(self, x):
            self.seconds = 0.05 * (1 + clock.now)
            return super().forward(x)

    found = compared(lambda: Drifts(clock))
    assert found.forward.verdict == found.train_step.verdict == UNDECIDED


def test_every_round_has_every_contestant_in_random_order(clock):
    calls = []
    runs = [lambda n=n: (calls.append(n), clock.wait(0.06)) for n in range(3)]
    timings = interleaved(runs, CPU, seconds=0.01)
    rounds = [tuple(calls[i : i + 3]) for i in range(0, len(calls), 3)][-LEAST_ROUNDS:]
    assert timings.wall.shape == timings.cpu.shape == (LEAST_ROUNDS, 3)
    assert all(sorted(one) == [0, 1, 2] for one in rounds) and len(set(rounds)) > 1


def test_it_is_warm_before_it_counts(clock):
    runs = iter([0.5 ** min(n, 6) for n in range(1000)])
    timings = interleaved([lambda: clock.wait(next(runs))], CPU, seconds=100)
    assert timings.wall.max() < 1.2 * 0.5**6


def test_short_runs_are_repeated_and_one_run_is_reported(clock):
    calls = []
    timings = interleaved([lambda: (calls.append(0), clock.wait(0.001))], CPU, seconds=0.01)
    assert len(calls) > 40 * LEAST_ROUNDS
    assert timings.wall.mean() == pytest.approx(0.001, rel=0.1)


def test_it_stops_when_its_seconds_are_over(clock):
    compared(lambda: Waits(clock, 0.05), seconds=5)
    assert clock.now < 2 * 5 * 1.5


def test_too_slow_for_its_time_gets_fewer_images(clock, caplog):
    with caplog.at_level(logging.WARNING):
        found = compared(lambda: Waits(clock, 0, an_image=0.1), batch_size=32)
    assert (found.batch_size, found.image_size) == (2, 4)  # 7 rounds of 3 x 0.1 s an image in at most 5 s
    assert found.forward.images_per_second == pytest.approx((10, 10), rel=0.05)
    assert "ours: 32 images of 4x4 at a time are too much here, taking 2 images of 4x4" in caplog.text


def test_what_takes_its_time_whatever_the_images_gets_all_of_them(clock):
    assert compared(lambda: Waits(clock, 0.2), batch_size=32).batch_size == 32  # 7 rounds of 3 x 0.2 s take 4.2 s


def test_too_slow_for_its_time_gets_smaller_images(clock, caplog):
    class Slow(Waits):
        def forward(self, x):
            self.clock.wait(0.1 * len(x) * x.shape[-1])
            return self.fc(torch.ones(len(x), 48))

    sides = [Side(name, lambda: Slow(clock)) for name in ("ours", "theirs")]
    with caplog.at_level(logging.WARNING):
        found = measure_speed(*sides, (3, 32, 32), Settings(seconds=5, batch_size=8), smaller=(3, 4, 4))
    assert (found.batch_size, found.image_size) == (1, 4)
    assert "taking 1 image of 4x4" in caplog.text


def test_batch_norm_gets_two_images_at_least(clock):
    class Normed(Waits):
        def __init__(self):
            super().__init__(clock, an_image=10)
            self.norm = nn.BatchNorm1d(48)

        def forward(self, x):
            return super().forward(self.norm(x.flatten(1)))

    assert compared(Normed, batch_size=8).batch_size == 2


class Greedy(nn.Sequential):
    """Has memory for so many images."""

    def __init__(self, most):
        super().__init__(nn.Flatten(), nn.Linear(48, 2))
        self.most = most

    def forward(self, x):
        if len(x) > self.most:
            torch.empty(2**60, dtype=torch.uint8)
        return super().forward(x)


def test_too_large_for_the_memory_gets_fewer_images(caplog, instant):
    with caplog.at_level(logging.WARNING):
        assert compared(lambda: Greedy(4), batch_size=16, **instant).batch_size == 4
    assert "there is not enough memory to run ours on 8 images at a time" in caplog.text
    assert "16 images of 4x4 at a time are too much here, taking 4 images of 4x4" in caplog.text
    with pytest.raises(UserError, match="not enough memory to run ours on 1 images"):
        compared(lambda: Greedy(0))


class Spy(nn.Module):
    """Notes under what it is run."""

    seen: list

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = self.convolution(x)
        layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        mode = (self.training, torch.is_grad_enabled())
        Spy.seen.append((mode, x.dtype, y.dtype, len(x), layout, torch.get_num_threads()))
        return {"out": y.mean((2, 3)), "aux": [y.amax((2, 3))]}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"threads": 2}, (torch.float32, torch.float32, 4, torch.contiguous_format, 2)),
        ({"channels_last": True, "threads": 1}, (torch.float32, torch.float32, 4, torch.channels_last, 1)),
        ({"precision": "bf16-mixed", "threads": 1}, (torch.float32, torch.bfloat16, 4, torch.contiguous_format, 1)),
        ({"precision": "bf16-true", "threads": 1}, (torch.bfloat16, torch.bfloat16, 4, torch.contiguous_format, 1)),
        ({"precision": "16-mixed", "threads": 1}, (torch.float32, torch.float16, 4, torch.contiguous_format, 1)),
        ({"precision": "64-true", "threads": 1}, (torch.float64, torch.float64, 4, torch.contiguous_format, 1)),
    ],
)
def test_settings_are_honoured(settings, expected, instant):
    Spy.seen = []
    before = torch.get_num_threads()
    compared(Spy, **instant | settings)
    assert {row[1:] for row in Spy.seen if row[3] == 4} == {expected}  # fewer are tried first
    assert {row[0] for row in Spy.seen} == {(False, False), (True, True)}  # (training, gradients)
    assert torch.get_num_threads() == before


def test_mistakes_are_named(clock):
    class Raises(Waits):
        def forward(self, x):
            raise ValueError("no such thing")

    class Text(Waits):
        def forward(self, x):
            return "no tensor"

    with pytest.raises(UserError, match="ours cannot be run on 1x3x4x4 images: ValueError: no such thing"):
        compared(lambda: Raises(clock), lambda: Waits(clock))
    with pytest.raises(UserError, match="theirs returns no tensor"):
        compared(lambda: Waits(clock), lambda: Text(clock))


def test_nothing_to_train(instant):
    found = compared(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), **instant)
    assert found.train_step is None and found.forward.pairs >= LEAST_ROUNDS


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.main, self.aux = nn.Linear(48, 2), nn.Linear(48, 3)

    def forward(self, x):
        return (self.main(x.flatten(1)), self.aux(x.flatten(1))) if self.training else self.main(x.flatten(1))


def test_every_head_is_trained_and_weights_stay(monkeypatch, instant):
    """The gradients of every output reach the optimiser; equal weights remain equal, however long it takes."""
    made = []

    class Noted(speed.Workload):
        def __init__(self, *args):
            super().__init__(*args)
            self.before = [weight.detach().clone() for weight in self.weights]
            made.append(self)

    monkeypatch.setattr(speed, "Workload", Noted)
    compared(TwoHeads, **instant)
    ours, theirs, copy = made
    assert len({id(one.network) for one in made}) == 3
    for one in (ours, theirs, copy):
        assert all(one.optimizer.state[head.weight]["momentum_buffer"].any() for head in one.network.children())
        assert all(torch.equal(*pair) for pair in zip(one.weights, one.before, strict=True))
        assert all(torch.equal(*pair) for pair in zip(one.weights, ours.weights, strict=True))
