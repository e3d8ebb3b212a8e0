"""torch's operators by what they are for the comparison: one name each, and the kinds that are treated alike."""

from typing import Any

# One name for what torch has several operators for; what is not listed keeps its own, less a trailing underscore.
NAMES = {
    **dict.fromkeys(("_convolution", "mkldnn_convolution", "cudnn_convolution"), "convolution"),
    **dict.fromkeys(("addmm", "mm", "bmm", "baddbmm", "matmul", "mv", "addmv", "_addmm_activation"), "linear"),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"), "batch_norm"),
    **dict.fromkeys(("_native_batch_norm_legit_no_training", "_batch_norm_with_update"), "batch_norm"),
    **dict.fromkeys(("_batch_norm_no_update", "_native_batch_norm_legit_functional"), "batch_norm"),
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "native_dropout": "dropout",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "max_pool2d_with_indices": "max_pool2d",
    "_unsafe_view": "view",
    "reshape": "view",
}
# Operations that put numbers elsewhere, or nowhere, and change none.
STRUCTURAL = frozenset(
    (
        *("view", "permute", "transpose", "t", "squeeze", "unsqueeze", "expand", "flatten", "unflatten"),
        *("slice", "select", "split", "split_with_sizes", "chunk", "unbind", "cat", "stack", "repeat", "as_strided"),
        *("clone", "detach", "alias", "contiguous", "_to_copy", "copy", "lift_fresh", "set", "_reshape_alias"),
        *("new_empty", "new_zeros", "new_ones", "empty_like", "zeros_like", "ones_like"),
    )
)
TURNING = frozenset(("t", "transpose", "permute"))
# Functions of one number: compared as such too, since two may agree on all that a network happened to feed them.
PIECES = frozenset(
    (
        *("relu", "hardtanh", "relu6", "gelu", "silu", "sigmoid", "hardsigmoid", "hardswish", "leaky_relu", "elu"),
        *("mish", "tanh", "softplus", "clamp", "clamp_min", "clamp_max", "threshold", "abs", "exp", "softsign"),
        *("log_sigmoid", "sign", "sqrt", "square"),
    )
)
# What makes a number of each number, or of each two at the same place.
ELEMENTWISE = PIECES | frozenset(
    (
        *("add", "sub", "rsub", "mul", "div", "neg", "minimum", "maximum", "pow", "reciprocal", "rsqrt", "erf"),
        *("log", "log1p", "expm1", "sin", "cos", "clone"),
    )
)
# Operations that draw random numbers.
DRAWS = frozenset(
    (
        *("bernoulli", "dropout", "rand", "rand_like", "uniform", "randn", "randn_like", "normal", "randint"),
        *("randint_like", "randperm", "multinomial", "rrelu_with_noise", "exponential"),
    )
)


def name_of(operator: Any) -> str:
    """Return the name of one of torch's operators, as `NAMES` has it."""
    name = operator._schema.name.partition("::")[2]
    name = name if name.endswith("__") else name.rstrip("_")
    return NAMES.get(name, name)
