"""How two networks train."""

from dataclasses import dataclass

from cnnbench.compare.result.estimate import Estimate


@dataclass(frozen=True)
class Duel:
    """One pair of training runs under one seed.

    Attributes:
        seed: Of data, augmentation and random draws.
        steps: Optimiser steps of each.
        first_different_step: The first step, from 1, at which the losses are not the same float32; None: never.
        largest_difference: Of the losses, absolute, over all steps.
        losses: Of every step, ours and theirs.
        metrics: Final figures by name, ours and theirs, such as {"test/accuracy": (0.98, 0.98)}.
        seconds_per_step: Median, ours and theirs.
    """

    seed: int
    steps: int
    first_different_step: int | None
    largest_difference: float
    losses: tuple[list[float], list[float]]
    metrics: dict[str, tuple[float, float]]
    seconds_per_step: tuple[float, float]


@dataclass(frozen=True)
class MetricSummary:
    """A final figure over all seeds: mean and standard deviation of each side, and the paired difference."""

    name: str
    ours: tuple[float, float]
    theirs: tuple[float, float]
    difference: Estimate


@dataclass(frozen=True)
class Training:
    """Both sides trained by one recipe from the same weights on the same batches."""

    config: str
    duels: list[Duel]
    metrics: list[MetricSummary]
    verdict: str

    @property
    def identical(self) -> bool:
        """Whether the losses of both sides are the same in every step of every duel."""
        return all(duel.first_different_step is None for duel in self.duels)
