"""The one-cycle schedule: Smith and Topin 2017, https://arxiv.org/abs/1708.07120."""

import math

import torch
from timm.scheduler.scheduler import Scheduler

RISE = 0.3  # part of the run
FIRST, LAST = 1 / 25, 1 / 25e4  # of the peak rate
MOMENTA = (0.95, 0.85)  # at the lowest rate and at the peak


class OneCycleScheduler(Scheduler):
    """The rate rises from a 25th of its peak and falls to a 250,000th, by cosines; momentum goes the other way.

    The course is that of `torch.optim.lr_scheduler.OneCycleLR` with its defaults, but as a function of the step alone,
    as timm's schedules are: a resumed run needs no state of it.

    Args:
        optimizer: Its learning rates are the peaks. Momentum, or the first of `betas`, moves where it has one.
        updates: Optimiser steps of the run.
        rise: Of them, the steps up to the peak.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, updates: int, rise: float) -> None:
        super().__init__(optimizer, "lr", t_in_epochs=False)
        self.peak, self.end = rise - 1, updates - 1
        self.step_update(0)

    def _get_lr(self, t: int) -> list[float]:
        return [value * self._between(t, FIRST, 1.0, LAST) for value in self.base_values]

    def step_update(self, num_updates: int, metric: float | None = None) -> None:
        """Set the rates and momenta of the step that `num_updates` others precede."""
        super().step_update(num_updates, metric)
        momentum = self._between(num_updates, *MOMENTA, MOMENTA[0])
        for group in self.optimizer.param_groups:
            if group.get("betas"):
                group["betas"] = (momentum, *group["betas"][1:])
            elif "momentum" in group:
                group["momentum"] = momentum

    def _between(self, t: int, first: float, peak: float, last: float) -> float:
        """Return the value at step t of what goes from `first` to `peak` and on to `last`."""
        if t <= self.peak:
            return _cosine(first, peak, t / self.peak if self.peak > 0 else 1.0)
        if t >= self.end:
            return last
        return _cosine(peak, last, (t - self.peak) / (self.end - self.peak))


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
