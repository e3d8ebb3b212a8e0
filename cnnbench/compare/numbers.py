"""Numbers kept of large tensors: enough to tell whether two are the same, whatever their layout."""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

KEPT = 1 << 12  # numbers of a sample
TOLERANCE = 1e-10  # relative; an equal network stands at 1e-15, a wrong one at 1e-6 and above
_SAME = 10 * TOLERANCE
_PERIOD = 4099


@dataclass(frozen=True)
class Fingerprint:
    """Sums over a tensor: those that no reordering of its numbers changes, and two that any does.

    Attributes:
        count: Numbers.
        moments: Sum of the numbers, of their squares and of their cubes.
        sizes: Sum of the magnitudes of what each moment adds up.
        extremes: Smallest and largest.
        order: Sums with a weight for each place, of the tensor as it lies, and with its second dimension put last.
    """

    count: int
    moments: tuple[float, ...]
    sizes: tuple[float, ...]
    extremes: tuple[float, float]
    order: tuple[float, float]

    @classmethod
    def of(cls, tensor: Tensor) -> "Fingerprint":
        """Take a tensor's fingerprint."""
        tensor = tensor.detach().double()
        numbers = tensor.reshape(-1)
        if not numbers.numel():
            return cls(0, (), (), (0.0, 0.0), (0.0, 0.0))
        squares = numbers * numbers
        cubes = squares * numbers
        moments = (numbers.sum(), squares.sum(), cubes.sum())
        sizes = (numbers.abs().sum(), moments[1], cubes.abs().sum())
        as_it_lies = _placed(numbers)
        turned = _placed(tensor.movedim(1, -1).reshape(-1)) if tensor.ndim > 2 else as_it_lies
        values = torch.stack([*moments, *sizes, *torch.aminmax(numbers), as_it_lies, turned]).tolist()
        return cls(numbers.numel(), tuple(values[:3]), tuple(values[3:6]), tuple(values[6:8]), tuple(values[8:]))

    def error(self, theirs: "Fingerprint") -> float:
        """Return the largest relative deviation in any order; infinite where the tensors cannot be the same."""
        if self.count != theirs.count:
            return math.inf
        if not self.count:
            return 0.0
        pairs = [*zip(self.moments, theirs.moments, theirs.sizes, strict=True)]
        largest = max(map(abs, theirs.extremes))
        pairs += [(one, other, largest) for one, other in zip(self.extremes, theirs.extremes, strict=True)]
        return max(relative(abs(one - other), size) for one, other, size in pairs)

    def same(self, theirs: "Fingerprint", ordered: bool = False) -> bool:
        """Whether rounding explains the difference.

        Args:
            theirs: Of another tensor.
            ordered: The numbers must lie in the same order too, channels second or last.
        """
        return self.error(theirs) <= _SAME and (not ordered or self._order_error(theirs) <= _SAME)

    def _order_error(self, theirs: "Fingerprint") -> float:
        if not self.count:
            return 0.0
        pairs = (self.order[0], theirs.order[0]), (self.order[1], theirs.order[0]), (self.order[0], theirs.order[1])
        return min(relative(abs(one - other), theirs.sizes[0]) for one, other in pairs)


class Known:
    """Fingerprints in which another is looked up."""

    def __init__(self, prints: Iterable[Fingerprint]) -> None:
        self._prints = sorted((print_ for print_ in prints if math.isfinite(_size(print_))), key=_size)
        self._sizes = [_size(print_) for print_ in self._prints]

    def has(self, print_: Fingerprint, ordered: bool = False) -> bool:
        """Whether the same tensor is among them; see `Fingerprint.same`."""
        size = _size(print_)
        for place in range(bisect_left(self._sizes, size * (1 - 2 * _SAME)), len(self._sizes)):
            if self._sizes[place] > size * (1 + 2 * _SAME):
                return False
            if print_.same(self._prints[place], ordered):
                return True
        return False


@dataclass(frozen=True)
class Sample:
    """Some of a tensor's numbers, taken at the same places whether channels come second or last.

    Attributes:
        shape: (rows, channels) of the whole: a row is a place in an image.
        numbers: The rows that were taken, float64.
        swapped: The rows taken if the whole lies with places before images, as attention often has it.
        whole: Fingerprint of the whole.
    """

    shape: tuple[int, int]
    numbers: Tensor
    swapped: Tensor
    whole: Fingerprint

    @classmethod
    def of(cls, tensor: Tensor, whole: Fingerprint, op: str, batch: int) -> "Sample":
        """Take a sample.

        Args:
            tensor: (B, C, ...) of a convolution, a batch or a group norm, (..., C) elsewhere.
            whole: Its fingerprint.
            op: The operation that takes it in or puts it out.
            batch: Number of images.
        """
        tensor = tensor.detach()
        second = op in ("convolution", "batch_norm", "group_norm") and tensor.ndim > 2
        rows = tensor.movedim(1, -1) if second else tensor
        channels = rows.shape[-1] if rows.ndim else 1
        rows = rows.reshape(-1, channels)
        step = max(1, math.ceil(rows.numel() / KEPT))
        numbers = rows[::step].double().clone()
        swapped = numbers
        if not second and len(rows) % batch == 0:
            by_image = rows.unflatten(0, (-1, batch)).transpose(0, 1).reshape(-1, channels)
            swapped = by_image[::step].double().clone()
        return cls((len(rows), channels), numbers, swapped, whole)

    def error(self, theirs: "Sample") -> float:
        """Return the largest deviation relative to the largest number of theirs.

        Tensors laid out otherwise, such as a map and the row that it is flattened to, are told by their fingerprints.
        """
        if self.shape != theirs.shape:
            return self.whole.error(theirs.whole)
        if not self.numbers.numel():
            return 0.0
        largest = max(map(abs, theirs.whole.extremes))
        readings = (self.numbers, theirs.numbers), (self.swapped, theirs.numbers), (self.numbers, theirs.swapped)
        deviation = min(relative((mine - other).abs().max().item(), largest) for mine, other in readings)
        return max(deviation, self.whole.error(theirs.whole))


def relative(deviation: float, size: float) -> float:
    """Return a deviation over a size: 0 where there is none, infinite where there is no size or no finite deviation."""
    if deviation == 0.0:
        return 0.0
    return deviation / size if size > 0 and math.isfinite(deviation) else math.inf


def _size(print_: Fingerprint) -> float:
    return print_.sizes[1] if print_.count else 0.0


def _placed(numbers: Tensor) -> Tensor:
    """Return the sum of numbers, each with a weight of its place."""
    weights = _weights(_PERIOD, numbers.device)
    rows, rest = divmod(len(numbers), _PERIOD)
    row_weights = _weights(rows + 1, numbers.device)
    whole = numbers[: rows * _PERIOD].view(rows, _PERIOD) @ weights @ row_weights[:rows]
    return whole + numbers[rows * _PERIOD :] @ weights[:rest] * row_weights[rows]


@cache
def _weights(count: int, device: torch.device) -> Tensor:
    return torch.arange(1, count + 1, dtype=torch.float64, device=device).mul(2.399963).sin()
