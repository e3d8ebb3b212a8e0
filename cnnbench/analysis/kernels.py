"""What operators with a window do to receptive fields: convolutions, pools, interpolation.

The arithmetic is that of Dumoulin and Visin, 2016, https://arxiv.org/abs/1603.07285, and of Araujo, Norris, Sim, 2019,
https://distill.pub/2019/computing-receptive-fields.
"""

from collections.abc import Sequence
from math import ceil, inf, nan

from cnnbench.analysis.call import Call, length
from cnnbench.analysis.field import SIDES, Dimension, Factor, Field, Span, contract, evenly, side_of, still, strided
from cnnbench.analysis.mixing import unknown


def convolution(call: Call) -> Field:
    """Convolutions and transposed ones, of any number of dimensions; weights that come from the image are gates."""
    field, args = call.main(), call.args
    if field is None:
        return unknown(call)
    if call.fields(args["weight"]) is not None:
        call.passed_gate()
    kernel = args["weight"].shape[2:]
    channels = 0 if args["groups"] == length(call.tensors()[0], 1) else 1
    dims = (field.dims[0], still(call.shape[1]))
    if channels:
        field = Field(contract(field, [1]), field.dims)
    elif call.shape[1] == length(call.tensors()[0], 1):
        dims = field.dims[:2]
    field = field.with_dims((*dims, *field.dims[2:]))
    for i, taps in enumerate(kernel):
        stride, padding, dilation = (_at(args[key], i) for key in ("stride", "padding", "dilation"))
        if args["transposed"]:
            field = _transposed(call, field, 2 + i, taps, stride, padding, dilation)
        else:
            field = _windowed(call, field, 2 + i, (taps - 1) * dilation, stride, padding)
    return field


def pool(call: Call) -> Field:
    """Average and maximum pools, in ceil mode too: that adds windows at the end and moves none."""
    field, args = call.main(), call.args
    kernel = args["kernel_size"]
    first = len(field.dims) - (3 if "3d" in call.name else 2)
    for i in range(len(field.dims) - first):
        taps, padding = _at(kernel, i), _at(args.get("padding", 0), i)
        stride = _at(args.get("stride") or kernel, i)
        field = _windowed(call, field, first + i, (taps - 1) * _at(args.get("dilation", 1), i), stride, padding)
    return field


def adaptive_pool(call: Call) -> Field:
    """Pools to a given size; one position sees everything, of several that see unequal parts the largest counts."""
    field = call.main()
    for position in (-2 + len(field.dims), -1 + len(field.dims)):
        n, outputs = length(call.tensors()[0], position), call.shape[position]
        if outputs == 1 < n:
            field = Field(contract(field, [position]), field.dims).with_dim(position, ())
        elif outputs != n:
            taps = max(ceil((i + 1) * n / outputs) - i * n // outputs for i in range(outputs))
            field = _windowed(call, field, position, taps - 1, n / outputs, 0)
    return field


def upsample(call: Call) -> Field:
    """Interpolation of maps; besides the nearest position bilinear sees one more a side, bicubic three."""
    field = call.main()
    taps = 0 if "nearest" in call.name else 3 if "bicubic" in call.name else 1
    for position in (len(field.dims) - 2, len(field.dims) - 1):
        n, outputs = length(call.tensors()[0], position), call.shape[position]
        if n == outputs:
            continue
        corners = call.args.get("align_corners") and outputs > 1
        ratio = (n - 1) / (outputs - 1) if corners else n / outputs
        side = side_of(field.dims[position])
        shift = 0.0 if corners else (ratio - 1) / 2
        field = _windowed(
            call, field, position, taps if n > 1 else 0, ratio, taps / 2 - shift if side is not None else 0
        )
        field = field.with_dim(position, _resized(field.dims[position], outputs))
    return field


def _windowed(call: Call, field: Field, position: int, extent: float, stride: float, padding: float) -> Field:
    """Slide a window over one dimension: from its first to its last tap it reaches `extent` indices."""
    dim = field.dims[position]
    moving = [side for side in SIDES if any(factor.steps[side] for factor in dim)]
    outputs = call.shape[position]
    if not moving:
        return field.with_dim(position, still(outputs))
    side = side_of(dim)
    if side is None:
        for lost in moving if extent else []:
            span = field.spans[lost]
            field = field.with_span(lost, span if span.size == inf else Span(nan, nan))
        return field.with_dim(position, strided(dim, outputs, stride))
    step = dim[0].steps[side]
    field = field.with_span(side, field.spans[side].wider(extent * step, (extent / 2 - padding) * step))
    return field.with_dim(position, evenly(side, outputs, step * stride))


def _transposed(call: Call, field: Field, position: int, taps: int, stride: int, padding: int, dilation: int) -> Field:
    """Slide a window over one dimension whose indices stand `stride` apart."""
    dim, outputs = field.dims[position], call.shape[position]
    side = side_of(dim)
    if side is None:
        return _windowed(call, field, position, 1, 1, 0)
    step = dim[0].steps[side]
    extent = ((taps - 1) * dilation) // stride
    shift = (padding - (taps - 1) * dilation / 2) / stride
    field = field.with_span(side, field.spans[side].wider(extent * step, shift * step))
    return field.with_dim(position, evenly(side, outputs, step / stride))


def _resized(dim: Dimension, outputs: int) -> Dimension:
    return tuple(Factor(int(outputs), factor.steps, factor.regular) for factor in dim[:1])


def _at(value: int | Sequence[int], i: int) -> int:
    if isinstance(value, int):
        return value
    return value[i] if len(value) > 1 else value[0]
