"""A figure that varies from one measurement to the next."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A median and its bootstrap 95 % interval."""

    median: float
    low: float
    high: float
