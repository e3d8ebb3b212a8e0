"""Findings as the checks return them, without what they cost."""

from dataclasses import replace

from cnnbench.compare.result import (
    Contest,
    Cost,
    Divergence,
    Duel,
    Errors,
    Estimate,
    Memory,
    MetricSummary,
    Parity,
    SideCost,
    Speed,
    Training,
    Weights,
)

EQUAL = Parity(True, 1e-10, Weights("same keys", 320, 320, 320), Errors(0, 0, 3e-16, 0))
STRIDE = "stride (2, 2), theirs (1, 1); layer2.0.conv2: stride (1, 1), theirs (2, 2)"
PARTED = replace(
    EQUAL,
    passed=False,
    max_relative_error=Errors(0.38, 0.38, 0.5, 0.4),
    first_divergence=Divergence("layer2.0.conv1", "layer2.0.conv1", STRIDE, 1e-16, 0.38, 214),
)
RESNET50 = SideCost(25_557_032, 4_089_184_256, 11_110_000)
COST = Cost(RESNET50, RESNET50)
SAME = "no difference this machine resolves"
FORWARD = Contest(Estimate(1.01, 0.98, 1.03), Estimate(1, 0.97, 1.03), None, None, (10.0, 9.9), 50, SAME)
STEP = Contest(Estimate(0.99, 0.97, 1.02), Estimate(1, 0.98, 1.02), None, None, (3.0, 3.0), 50, SAME)
SPEED = Speed(8, FORWARD, STEP)
SEEDS = [
    Duel(seed, 4, None, 0.0, ([1.0] * 4, [1.0] * 4), {"val/accuracy": (0.6, 0.6)}, (0.035, 0.034)) for seed in (0, 1)
]
ACCURACY = MetricSummary("val/accuracy", (0.6167, 0.1126), (0.6167, 0.1126), Estimate(0.0, -0.01, 0.01))
TRAINING = Training("configs/lenet5.yaml", SEEDS, [ACCURACY], "identical losses in all 4 steps of 2 seeds")
MEMORY = Memory(int(1.92 * 2**30), int(1.921 * 2**30), 8)
