"""Receptive fields: what a position of a tensor sees of the image, and how the positions move over it.

A tensor's field has two parts. A `Span` a side of the image (0: height, 1: width) tells how many pixels the first
position sees and where their centre lies. And each dimension of the tensor is a row of `Factor`s, outer first, that
tell how far in the image one step along the dimension leads: of a map (B, C, H, W) the third moves over the height, in
tokens (B, H*W, C) the second over both. So reshaped, permuted and flattened tensors stay known.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, isnan, nan, prod

SIDES = (0, 1)


@dataclass(frozen=True)
class Span:
    """What the first position sees along one side of the image.

    Attributes:
        size: Pixels; infinite: all that there are; not a number: not known.
        start: The centre of these pixels; that of the image's first pixel is 0.5.
    """

    size: float = 1.0
    start: float = 0.5

    def wider(self, size: float, start: float) -> "Span":
        """Return the span with both added."""
        return Span(self.size + size, self.start + start)


@dataclass(frozen=True)
class Factor:
    """A part of a dimension: `length` indices, each of which leads `steps` pixels on along height and width.

    Attributes:
        length: How many indices.
        steps: Pixels along height and width; both 0: it does not move over the image.
        regular: Whether that holds from each index to the next; else the steps are the least there are.
    """

    length: int
    steps: tuple[float, float] = (0.0, 0.0)
    regular: bool = True


Dimension = tuple[Factor, ...]


@dataclass(frozen=True)
class Field:
    """What the positions of a tensor see."""

    spans: tuple[Span, Span]
    dims: tuple[Dimension, ...]

    def moves(self, side: int, without: Iterable[int] = ()) -> bool:
        """Tell whether a dimension, other than those `without`, moves along a side of the image."""
        dims = (dim for position, dim in enumerate(self.dims) if position not in set(without))
        return any(factor.steps[side] for dim in dims for factor in dim)

    def stride(self, side: int) -> float | None:
        """Return the least step along a side of the image; None: no dimension moves along it."""
        steps = [factor.steps[side] for dim in self.dims for factor in dim]
        return min((step for step in steps if step), default=None)

    def with_dims(self, dims: Iterable[Dimension]) -> "Field":
        """Return the field with other dimensions."""
        return replace(self, dims=tuple(dims))

    def with_dim(self, position: int, dim: Dimension) -> "Field":
        """Return the field with another dimension at a position."""
        return self.with_dims([*self.dims[:position], dim, *self.dims[position:][1:]])

    def with_span(self, side: int, span: Span) -> "Field":
        """Return the field with another span along a side."""
        return replace(self, spans=(span, self.spans[1]) if side == 0 else (self.spans[0], span))


def image_field(shape: Sequence[int]) -> Field:
    """Return the field of an image (B, C, H, W): each position sees itself."""
    batch, channels, height, width = shape
    moving = ((Factor(height, (1.0, 0.0)),), (Factor(width, (0.0, 1.0)),))
    return Field((Span(), Span()), (still(batch), still(channels), *moving))


def still(length: int) -> Dimension:
    """Return a dimension that does not move over the image."""
    return (Factor(int(length)),) if length != 1 else ()


def side_of(dim: Dimension) -> int | None:
    """Return the side of the image that a dimension moves along evenly, if it is one."""
    moving = [factor for factor in dim if any(factor.steps)]
    if len(dim) != 1 or len(moving) != 1 or not moving[0].regular:
        return None
    return 0 if moving[0].steps[0] else 1


def union(spans: Sequence[Span]) -> Span:
    """Return what all of several branches see together."""
    if any(span.size == inf for span in spans):
        return Span(inf, nan)
    if any(isnan(span.size) for span in spans):
        return Span(nan, nan)
    low = min(span.start - span.size / 2 for span in spans)
    high = max(span.start + span.size / 2 for span in spans)
    return Span(high - low, (low + high) / 2)


def contract(field: Field, positions: Iterable[int], windows: bool = False) -> tuple[Span, Span]:
    """Return the spans after dimensions were summed over.

    A dimension that is the last to move along a side makes the field the whole image. One of several that moves in
    smaller steps than those that stay, as after the image was cut into patches, adds the patch.

    Args:
        field: Of the tensor.
        positions: The dimensions that go.
        windows: Whether the result stays at the positions within a patch, as in window attention: what it then sees
            depends on the position, which is not followed.
    """
    positions = [position % len(field.dims) for position in positions]
    spans = list(field.spans)
    for factor in (factor for position in positions for factor in field.dims[position]):
        for side in SIDES:
            step = factor.steps[side]
            if step and not field.moves(side, without=positions):
                spans[side] = Span(inf, nan)
            elif step and (windows or not factor.regular or step > _least(field, side, without=positions)):
                spans[side] = Span(inf if spans[side].size == inf else nan, nan)
            elif step:
                extent = (factor.length - 1) * step
                spans[side] = spans[side].wider(extent, extent / 2)
    return spans[0], spans[1]


def reshape(dims: Sequence[Dimension], shape: Sequence[int]) -> tuple[Dimension, ...]:
    """Return the dimensions of a tensor after `view(shape)`; uneven ones where the cut does not fit."""
    queue = _merged(factor for dim in dims for factor in dim if factor.length != 1)
    result = []
    for size in shape:
        taken = []
        while size > 1:
            if not queue:
                return uneven(dims, shape)
            factor = queue.pop(0)
            if size % factor.length:
                if factor.length % size:
                    return uneven(dims, shape)
                inner = factor.length // size
                scale = inner if factor.regular else 1
                queue.insert(0, replace(factor, length=inner))
                factor = replace(factor, length=size, steps=(factor.steps[0] * scale, factor.steps[1] * scale))
            taken.append(factor)
            size //= factor.length
        result.append(tuple(_merged(taken)))
    return tuple(result)


def uneven(dims: Iterable[Dimension], shape: Sequence[int]) -> tuple[Dimension, ...]:
    """Return dimensions of which any may move over what `dims` moved over."""
    steps = least_steps(dims)
    return tuple((Factor(int(size), steps, regular=False),) if size != 1 else () for size in shape)


def least_steps(dims: Iterable[Dimension]) -> tuple[float, float]:
    """Return the least steps of several dimensions along height and width."""
    factors = [factor for dim in dims for factor in dim]
    height, width = (min((f.steps[side] for f in factors if f.steps[side]), default=0.0) for side in SIDES)
    return height, width


def joined(dims: Sequence[Dimension], length: int) -> Dimension:
    """Return the dimension that several of them make when put one after the other, or on top of each other."""
    steps = least_steps(dims)
    return (Factor(int(length), steps, regular=False),) if any(steps) else still(length)


def length_of(dim: Dimension) -> int:
    """Return how many indices a dimension has."""
    return prod(factor.length for factor in dim)


def evenly(side: int, outputs: int, step: float) -> Dimension:
    """Return a dimension that moves over one side of the image in equal steps."""
    return (Factor(int(outputs), (step, 0.0) if side == 0 else (0.0, step)),)


def strided(dim: Dimension, outputs: int, stride: float) -> Dimension:
    """Return every so many indices of a dimension that does not move evenly."""
    height, width = least_steps([dim])
    if outputs == length_of(dim) and stride == 1:
        return dim
    if not height and not width:
        return still(outputs)
    return (Factor(int(outputs), (height * stride, width * stride), regular=False),)


def aligned(dims: Sequence[Dimension], count: int, position: int) -> Dimension:
    """Return the dimension at a position of a tensor that is broadcast to `count` dimensions."""
    position -= count - len(dims)
    return dims[position] if position >= 0 else ()


def _least(field: Field, side: int, without: Sequence[int]) -> float:
    """Return the least step along a side of those dimensions that stay."""
    dims = [dim for position, dim in enumerate(field.dims) if position not in without]
    return least_steps(dims)[side]


def _merged(factors: Iterable[Factor]) -> list[Factor]:
    """Return the factors, neighbours that go on in the same steps as one."""
    merged: list[Factor] = []
    for factor in factors:
        if merged and _goes_on(merged[-1], factor):
            merged[-1] = replace(factor, length=merged[-1].length * factor.length)
        else:
            merged.append(factor)
    return merged


def _goes_on(outer: Factor, inner: Factor) -> bool:
    return outer.regular and inner.regular and outer.steps == tuple(step * inner.length for step in inner.steps)
