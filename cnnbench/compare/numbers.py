"""Numbers kept of large tensors: enough to tell whether two are the same, whatever their layout."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

KEPT = 1 << 14  # numbers of a sample
TOLERANCE = 1e-10  # relative; an equal network stands at 1e-15, a wrong one at 1e-6 and above


@dataclass(frozen=True)
class Fingerprint:
    """Sums over a tensor that no reordering of its numbers changes.

    Attributes:
        count: Numbers.
        moments: Sum of the numbers, of their squares and of their cubes.
        sizes: Sum of the magnitudes of what each moment adds up.
        extremes: Smallest and largest.
    """

    count: int
    moments: tuple[float, ...]
    sizes: tuple[float, ...]
    extremes: tuple[float, float]

    @classmethod
    def of(cls, tensor: Tensor) -> "Fingerprint":
        """Take a tensor's fingerprint."""
        numbers = tensor.detach().double().reshape(-1)
        if not numbers.numel():
            return cls(0, (), (), (0.0, 0.0))
        squares = numbers * numbers
        cubes = squares * numbers
        moments = (numbers.sum(), squares.sum(), cubes.sum())
        sizes = (numbers.abs().sum(), moments[1], cubes.abs().sum())
        low, high = torch.aminmax(numbers)
        values = torch.stack([*moments, *sizes, low, high]).tolist()
        return cls(numbers.numel(), tuple(values[:3]), tuple(values[3:6]), (values[6], values[7]))

    def error(self, theirs: "Fingerprint") -> float:
        """Return the largest relative deviation; infinite where the tensors cannot be the same."""
        if self.count != theirs.count:
            return math.inf
        if not self.count:
            return 0.0
        pairs = [*zip(self.moments, theirs.moments, theirs.sizes, strict=True)]
        largest = max(map(abs, theirs.extremes))
        pairs += [(one, other, largest) for one, other in zip(self.extremes, theirs.extremes, strict=True)]
        return max(relative(abs(one - other), size) for one, other, size in pairs)

    def same(self, theirs: "Fingerprint") -> bool:
        """Whether rounding explains the difference."""
        return self.error(theirs) <= 10 * TOLERANCE


@dataclass(frozen=True)
class Sample:
    """Some of a tensor's numbers, taken at the same places whether channels come second or last.

    Attributes:
        shape: (rows, channels) of the whole: a row is a place in an image.
        numbers: The rows that were taken, float64.
        whole: Fingerprint of the whole.
    """

    shape: tuple[int, int]
    numbers: Tensor
    whole: Fingerprint

    @classmethod
    def of(cls, tensor: Tensor, op: str) -> "Sample":
        """Take a sample.

        Args:
            tensor: (B, C, ...) of a convolution, a batch or a group norm, (..., C) elsewhere.
            op: The operation that takes it in or puts it out.
        """
        tensor = tensor.detach()
        second = op in ("convolution", "batch_norm", "group_norm") and tensor.ndim > 2
        rows = tensor.movedim(1, -1) if second else tensor
        channels = rows.shape[-1] if rows.ndim else 1
        rows = rows.reshape(-1, channels)
        step = max(1, math.ceil(rows.numel() / KEPT))
        return cls((len(rows), channels), rows[::step].double().clone(), Fingerprint.of(tensor))

    def error(self, theirs: "Sample") -> float:
        """Return the largest deviation relative to the largest number of theirs.

        Tensors laid out otherwise, such as a map and the row that it is flattened to, are told by their fingerprints.
        """
        if self.shape != theirs.shape:
            return self.whole.error(theirs.whole)
        if not self.numbers.numel():
            return 0.0
        largest = max(map(abs, theirs.whole.extremes))
        deviation = (self.numbers - theirs.numbers).abs().max().item()
        return max(relative(deviation, largest), self.whole.error(theirs.whole))


def relative(deviation: float, size: float) -> float:
    """Return a deviation over a size: 0 where there is none, infinite where there is no size or no finite deviation."""
    if deviation == 0.0:
        return 0.0
    return deviation / size if size > 0 and math.isfinite(deviation) else math.inf
