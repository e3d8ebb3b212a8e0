"""What operators without a window do to receptive fields: activations, sums, matrix products."""

from math import inf, nan

from cnnbench.analysis.call import Call
from cnnbench.analysis.field import (
    SIDES,
    Dimension,
    Field,
    Span,
    aligned,
    contract,
    joined,
    length_of,
    side_of,
    still,
    uneven,
    union,
)


def keep(call: Call) -> Field:
    """Norms, softmax, copies: every position sees what it saw."""
    field = call.main()
    return field if field is not None else pointwise(call)


def pointwise(call: Call) -> Field:
    """Activations, additions, products: all operands together, broadcast.

    A product of a map and of a gate that sees the whole image, as in squeeze-and-excitation, follows the map.
    """
    known = call.known()
    dims = [
        _broadcast([aligned(field.dims, len(call.shape), i) for _, field in known], size)
        for i, size in enumerate(call.shape)
    ]
    spans = [_seen_together(call, [field for _, field in known], side) for side in SIDES]
    return Field((spans[0], spans[1]), tuple(dims))


def reduction(call: Call) -> Field:
    """Means, sums, maxima over some dimensions, or all."""
    field = call.main()
    dim = call.args.get("dim")  # None or empty: all of them
    dim = [dim] if isinstance(dim, int) else dim
    positions = {d % len(field.dims) for d in (dim or range(len(field.dims)))}
    kept = len(call.shape) == len(field.dims)
    dims = [() if i in positions else dim for i, dim in enumerate(field.dims) if kept or i not in positions]
    return Field(contract(field, positions), tuple(dims))


def product(call: Call) -> Field:
    """Matrix products; with a matrix of weights the rows see what they saw of the dimension that is summed over."""
    left, right = ("mat1", "mat2") if "mat1" in call.args else ("batch1", "batch2")
    if left not in call.args:
        left, right = ("self", "vec") if "vec" in call.args else ("self", "mat2")
    a, b = call.fields(call.args[left]), call.fields(call.args[right])
    both = a is not None and b is not None
    spans, dims = [], []
    if a is not None:
        spans.append(contract(a, [-1], windows=both))
    if b is not None:
        spans.append(contract(b, [-1 if right == "vec" else -2], windows=both))
    shape = call.shape
    if len(shape) == 3:
        dims.append((a or b).dims[0])
    dims.append(a.dims[-2] if a else still(shape[len(dims)]))
    if len(dims) < len(shape):
        dims.append(b.dims[-1] if b else still(shape[-1]))
    return Field((union([s[0] for s in spans]), union([s[1] for s in spans])), tuple(dims))


def unknown(call: Call) -> list[Field]:
    """Whatever is not in the table: of sides that are not seen as a whole yet nothing is known from here on."""
    fields = [field for _, field in call.known()]
    dims = [dim for field in fields for dim in field.dims]
    spans = []
    for side in SIDES:
        everything = any(field.spans[side].size == inf for field in fields)
        spans.append(Span(inf if everything else nan, nan))
    return [Field((spans[0], spans[1]), uneven(dims, output.shape)) for output in call.outputs]


def _seen_together(call: Call, fields: list[Field], side: int) -> Span:
    maps = [field for field in fields if field.moves(side)]
    gates = [
        field for field in fields if field.spans[side].size == inf and _is_gate(field, maps, side, len(call.shape))
    ]
    if call.name.rstrip("_") in ("mul", "div") and gates and maps:
        call.passed_gate()
        fields = maps
    return union([field.spans[side] for field in fields])


def _is_gate(field: Field, maps: list[Field], side: int, count: int) -> bool:
    """Tell whether a field is one for all positions of the maps that it is broadcast with."""
    if field.moves(side):
        return False
    moving = {i for other in maps for i in range(count) if any(f.steps[side] for f in aligned(other.dims, count, i))}
    return all(length_of(aligned(field.dims, count, i)) == 1 for i in moving)


def _broadcast(dims: list[Dimension], size: int) -> Dimension:
    moving = [dim for dim in dims if any(any(factor.steps) for factor in dim)]
    if not moving:
        return still(size)
    if len({side_of(dim) for dim in moving} - {None}) == 1 and all(side_of(dim) is not None for dim in moving):
        return max(moving, key=lambda dim: max(dim[0].steps))  # after resizing the steps may differ by a fraction
    return moving[0] if all(dim == moving[0] for dim in moving) else joined(moving, size)
