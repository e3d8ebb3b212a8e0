"""Reports made up for the tests of the report: every part of a result, with figures that no two cells share."""

import math
from dataclasses import replace

from cnnbench.compare.result import (
    Comparison,
    Contest,
    Cost,
    Divergence,
    Duel,
    Errors,
    Estimate,
    LayerError,
    Memory,
    MetricSummary,
    Parity,
    Published,
    Report,
    Served,
    SideCost,
    Speed,
    StageCost,
    Training,
    Weights,
)
from cnnbench.compare.statistics import verdict

EVIL = "<script>alert(1)</script>&\"'--> $x$"
ENVIRONMENT = {
    "processor": "Some processor, 2 cores",
    "accelerator": None,
    "threads": 2,
    "versions": {"torch": "2.15.0", "timm": "1.0.31"},
    "compile": False,
    "checks": ["parity", "speed"],
}


def contest(median, width=0.02, control=0.03):
    speedup, same = Estimate(median, median - width, median + width), Estimate(1.001, 1 - control, 1 + control / 2)
    return Contest(speedup, same, speedup, same, (10 * median, 10.0), 40, verdict(speedup, same))


def equal_pair(name="resnet18", number=0):
    """A pair that is equal, all of whose figures grow with `number`."""
    side = SideCost(1_000_000 + number * 1_000_003, 10**9 + number * 7 * 10**6, 10**6, [StageCost("stem", 1, 2, 3)])
    return Comparison(
        model=name,
        reference=f"timm/{name}",
        parity=Parity(True, 1e-10, Weights("same keys", 122, 122, 122), Errors(0.0, 2e-16, 3e-16, 0.0)),
        cost=Cost(side, side),
        speed=Speed(8, contest(1 + number / 1000), contest(1 - number / 2000)),
        memory=Memory(2 * 2**30 + number, 2**31, 8),
        top1=70 + number / 10,
        year=2015,
    )


def unequal_pair(name="resnet50", mode="eval"):
    """A pair that parts at its third layer."""
    modules = ["conv1", "layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1", "fc"]
    errors = [0.0, 1e-16, 0.38, 0.4, math.inf]
    cause = "stride (2, 2), theirs (1, 1)"
    return replace(
        equal_pair(name),
        published=Published(70.5, 1.01e6, 1.05e9),  # the first figure that is measured too is near, the second is not
        parity=Parity(
            False,
            1e-10,
            Weights("data flow", 160, 161, 160, ["ours has extra.weight (512, 512), theirs has nothing of this shape"]),
            Errors(math.inf, 0.41, None, 0.2),
            Divergence("layer2.0.conv1", "stages.1.conv1", cause, 1e-16, 0.38, 77, mode),
            [LayerError(module, module, error) for module, error in zip(modules, errors, strict=True)],
        ),
    )


def failed_pair(name="convnext_large"):
    return Comparison(name, f"timm/{name}", error="not enough memory for a batch of 1", year=2022)


def duel(seed, differs=True):
    theirs = [2.3 / (step + 1) + seed / 10 for step in range(20)]
    ours = [loss + (1e-7 if differs and step > 9 else 0) for step, loss in enumerate(theirs)]
    first, largest = (11, 1e-7) if differs else (None, 0.0)
    return Duel(seed, 20, first, largest, (ours, theirs), {"test/accuracy": (0.98, 0.97)}, (0.0321, 0.0319))


def trained_pair(name="resnet34"):
    pair = equal_pair(name, 3)
    served = Served("channels_last, folded BatchNorm", 61.25, Estimate(1.31, 1.29, 1.33), 3e-7)
    metric = MetricSummary("test/accuracy", (0.981, 0.0011), (0.9807, 0.0013), Estimate(0.0003, -0.001, 0.0014))
    return replace(
        pair,
        speed=replace(pair.speed, served=(served, replace(served, options="compiled")), served_contest=contest(1.2)),
        training=Training("configs/resnet18.yaml", [duel(0), duel(1, differs=False)], [metric], "differ at step 11"),
    )


def report(*pairs, command="python -m cnnbench compare resnet18"):
    return Report(ENVIRONMENT, command, list(pairs))


def leaderboard(rows=68):
    """As many pairs as there are models: one is not equal, one failed, one was trained."""
    pairs = [equal_pair(f"model{number}", number * 37 % rows) for number in range(rows - 3)]
    return report(*pairs, unequal_pair(), failed_pair(), trained_pair())
