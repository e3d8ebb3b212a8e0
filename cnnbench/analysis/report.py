"""Receptive fields as they are shown: height and width, and what is not a number in words."""

from dataclasses import dataclass
from math import inf, isnan

from cnnbench.analysis.field import SIDES, Field

Number = int | float
ALL = "all"


@dataclass(frozen=True)
class ReceptiveField:
    """What a layer's outputs see of the image, each a pair of height and width, in pixels of the image.

    Attributes:
        size: How many pixels an output sees, those beyond the border counted: "all" after global pooling and
            attention, None where it is not known.
        stride: How far neighbouring outputs' fields lie apart (the "jump"); None: the outputs do not lie side by side.
        start: The centre of the first output's field, where 0.5 is the centre of the image's first pixel, as in Dang
            Ha The Hien's arithmetic (distill.pub's puts that at 0); None where `size` or `stride` has no number.
    """

    size: tuple[Number | str | None, Number | str | None]
    stride: tuple[Number | None, Number | None]
    start: tuple[Number | None, Number | None]

    @classmethod
    def of(cls, field: Field) -> "ReceptiveField":
        """Return a field of the propagation in this form."""
        sizes = [_size(field.spans[side].size) for side in SIDES]
        strides = [_number(field.stride(side)) for side in SIDES]
        starts = [_number(field.spans[s].start) if strides[s] is not None else None for s in SIDES]
        return cls(tuple(sizes), tuple(strides), tuple(starts))


def _size(value: float) -> Number | str | None:
    return ALL if value == inf else _number(value)


def _number(value: float | None) -> Number | None:
    if value is None or isnan(value):
        return None
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded
