"""What operators that move numbers, and compute none, do to receptive fields."""

from cnnbench.analysis.call import Call, length
from cnnbench.analysis.field import (
    SIDES,
    Dimension,
    Field,
    aligned,
    evenly,
    joined,
    reshape,
    side_of,
    still,
    strided,
    union,
)


def view(call: Call) -> Field:
    """Reshapes."""
    field = call.main()
    return field.with_dims(reshape(field.dims, call.shape))


def permute(call: Call) -> Field:
    """Permutations and transpositions."""
    field, args = call.main(), call.args
    order = list(range(len(field.dims)))
    if "dims" in args:
        order = [dim % len(order) for dim in args["dims"]]
    elif "dim0" in args:
        first, second = call.position("dim0"), call.position("dim1")
        order[first], order[second] = order[second], order[first]
    else:
        order.reverse()  # t
    return field.with_dims(field.dims[dim] for dim in order)


def unsqueeze(call: Call) -> Field:
    """A new dimension of one index."""
    field = call.main()
    position = call.args["dim"] % (len(field.dims) + 1)
    return field.with_dims([*field.dims[:position], (), *field.dims[position:]])


def expand(call: Call) -> Field:
    """Repetitions of dimensions of one index."""
    field = call.main()
    count = len(call.shape)
    return field.with_dims(aligned(field.dims, count, i) or still(size) for i, size in enumerate(call.shape))


def part(call: Call) -> Field:
    """A slice, every so many of a dimension's indices."""
    field, position = call.main(), call.position()
    n = length(call.tensors()[0], position)
    begin = call.args["start"] or 0
    begin = max(begin + n, 0) if begin < 0 else begin
    return _cut(field, position, n, min(begin, n), call.shape[position], call.args["step"])


def parts(call: Call) -> list[Field]:
    """Splits along a dimension."""
    field, position, begin, result = call.main(), call.position(), 0, []
    n = length(call.tensors()[0], position)
    for output in call.outputs:
        result.append(_cut(field, position, n, begin, output.shape[position], 1))
        begin += output.shape[position]
    return result


def select(call: Call) -> Field:
    """One index of a dimension, which goes."""
    field, position = call.main(), call.position()
    n = length(call.tensors()[0], position)
    return _without(_cut(field, position, n, call.args["index"] % n, 1, 1), position)


def unbind(call: Call) -> list[Field]:
    """Every index of a dimension by itself."""
    field, position = call.main(), call.position()
    count = len(call.outputs)
    return [_without(_cut(field, position, count, i, 1, 1), position) for i in range(count)]


def concatenation(call: Call) -> Field:
    """Tensors one after the other along a dimension, or stacked along a new one; all that they see counts."""
    known = [field for _, field in call.known()]
    stacked = call.name == "stack"
    position = call.args["dim"] % len(call.shape)
    dims = list(_richest([field.dims for field in known]))
    if stacked:
        dims.insert(position, still(call.shape[position]))
    else:
        dims[position] = joined([field.dims[position] for field in known], call.shape[position])
    spans = [union([field.spans[side] for field in known]) for side in SIDES]
    return Field((spans[0], spans[1]), tuple(dims))


def pad(call: Call) -> Field:
    """Padding, negative too: the first position moves."""
    field = call.main()
    amounts = call.args.get("pad", call.args.get("padding"))
    for i in range(len(amounts) // 2):
        position = len(field.dims) - 1 - i
        field = _cut(field, position, length(call.tensors()[0], position), -amounts[2 * i], call.shape[position], 1)
    return field


def _cut(field: Field, position: int, n: int, begin: int, outputs: int, step: int) -> Field:
    """Take `outputs` of the n indices of a dimension, from `begin` (before 0: padding) on."""
    dim = field.dims[position]
    if outputs == n and begin == 0:
        return field
    side = side_of(dim)
    if side is None:
        return field.with_dim(position, strided(dim, outputs, step))
    size = dim[0].steps[side]
    field = field.with_span(side, field.spans[side].wider(0, begin * size))
    return field.with_dim(position, evenly(side, outputs, size * step))


def _without(field: Field, position: int) -> Field:
    return field.with_dims([*field.dims[:position], *field.dims[position + 1 :]])


def _richest(several: list[tuple[Dimension, ...]]) -> tuple[Dimension, ...]:
    """Return the dimensions of that tensor of which most move over the image."""
    return max(several, key=lambda dims: sum(any(factor.steps) for dim in dims for factor in dim))
