"""How many images at a time, and how large ones, can be timed in the time and the memory that there are."""

import logging
from collections.abc import Callable, Sequence

from torch import Tensor

from cnnbench.compare.timing import LEAST_ROUNDS
from cnnbench.compare.workload import NotEnoughMemoryError, with_enough_memory

LONGEST = 3  # times the seconds that it is given may a contest take with the fewest images, before it gets smaller ones
_log = logging.getLogger(__name__)


def affordable(
    choices: Sequence[Tensor], fewest: int, seconds_a_round: Callable[[Tensor], float], seconds: float, label: str
) -> Tensor:
    """Return as many and as large images as memory and time allow; a warning tells where these are not those wanted.

    Their number grows from the fewest, so that what is far from affordable is not tried.

    Args:
        choices: Images (B, C, H, W) as they are wanted, then smaller ones to fall back on.
        fewest: At a time.
        seconds_a_round: Runs all contestants on images, and tells how long that takes.
        seconds: That a contest is given.
        label: Who is compared.

    Raises:
        NotEnoughMemoryError: A single image is too many.
    """
    for wanted in choices:
        number, needed = _most(wanted, fewest, seconds_a_round, seconds)
        if needed <= LONGEST * seconds:
            break
    found = wanted[:number]
    seconds_a_round(found)  # others may have been tried last
    if found.shape != choices[0].shape:
        _log.warning("%s: %s at a time are too much here, taking %s", label, _said(choices[0]), _said(found))
    return found


def _most(images: Tensor, fewest: int, seconds_a_round: Callable[[Tensor], float], allowed: float) -> tuple[int, float]:
    """Return how many of the images can be run, all or a half or a quarter of them and so on, and a contest's seconds.

    Twice as many need not take twice as long: how much longer the last step up took is what the next is expected to.
    """

    def measure(number: int) -> float:
        return LEAST_ROUNDS * seconds_a_round(images[:number])

    halves = [len(images) >> i for i in range(len(images).bit_length())]
    fewest, *others = sorted(number for number in halves if number >= fewest) or [len(images)]
    needed, number = with_enough_memory(fewest, measure)
    growth = 1.0
    for more in others:
        if number < fewest or needed * growth > allowed:
            break
        try:
            needed_then = measure(more)
        except NotEnoughMemoryError as error:
            _log.warning("%s", error)
            break
        if needed_then > allowed:
            break
        growth, needed, number = needed_then / needed, needed_then, more
    return number, needed


def _said(images: Tensor) -> str:
    number, _, height, width = images.shape
    return f"{number} image{'' if number == 1 else 's'} of {height}x{width}"
