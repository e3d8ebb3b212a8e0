"""Checks of what a user typed: each raises a `UserError` that names the argument and says what is right."""

import math
from collections.abc import Sequence

from cnnbench.errors import UserError


def at_least(name: str, value: int, smallest: int) -> None:
    """Refuse a whole number below `smallest`."""
    if value < smallest:
        raise UserError(f"{name} is {value}: it must be at least {smallest}")


def not_negative(name: str, value: float) -> None:
    """Refuse a number below 0, one that is infinite, and what is no number."""
    if not 0 <= value < math.inf:
        raise UserError(f"{name} is {value}: it must be a number of at least 0")


def one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse a value that is not among those allowed."""
    if value not in allowed:
        raise UserError(f"{name} is {value!r}: it must be {' or '.join(repr(choice) for choice in allowed)}")


def distinct(name: str, values: Sequence[str]) -> None:
    """Refuse a list that has something twice."""
    twice = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if twice is not None:
        raise UserError(f"{name} has {twice!r} twice: each must be another")


def probability(name: str, value: float) -> None:
    """Refuse a number outside [0, 1]."""
    if not 0 <= value <= 1:
        raise UserError(f"{name} is {value}: a probability is between 0 and 1")


def angle(name: str, value: float) -> None:
    """Refuse degrees outside [0, 180]."""
    if not 0 <= value <= 180:
        raise UserError(f"{name} is {value}: it must be between 0 and 180 degrees")


def ascending(name: str, values: tuple[float, float]) -> None:
    """Refuse a pair that is not (smaller, larger), both above 0."""
    if not 0 < values[0] <= values[1]:
        raise UserError(f"{name} is {list(values)}: it must be [smallest, largest], both above 0")


def per_channel(name: str, values: Sequence[float] | None, in_chans: int, positive: bool = False) -> None:
    """Refuse a list that has not one number a channel, or a number of 0 or less where `positive`."""
    if values is None:
        return
    if len(values) != in_chans:
        raise UserError(f"{name} has {len(values)} numbers: with in_chans {in_chans} it must have {in_chans}")
    if positive and min(values) <= 0:
        raise UserError(f"{name} is {list(values)}: each number must be above 0")
