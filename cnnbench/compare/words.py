"""Operations and their settings in words."""

from typing import Any

from cnnbench.compare.steps import Op

WORDS = {
    "relu": "ReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "hardtanh": "hard tanh",
    "hardsigmoid": "hard sigmoid",
    "hardswish": "hard swish",
    "leaky_relu": "leaky ReLU",
    "batch_norm": "batch norm",
    "layer_norm": "layer norm",
    "group_norm": "group norm",
    "max_pool2d": "max pool",
    "avg_pool2d": "average pool",
    "adaptive_avg_pool2d": "adaptive average pool",
    "constant_pad_nd": "padding",
    "replication_pad2d": "replicated padding",
    "reflection_pad2d": "reflected padding",
    "mul": "multiplication",
    "add": "addition",
    "sub": "subtraction",
    "div": "division",
    "linear": "matrix product",
    "mean": "mean",
    "amax": "maximum",
    "native_dropout": "dropout",
}
# Settings that follow from the shapes, or that say how and not what is computed.
_INCIDENTAL = frozenset(
    {
        *("size", "normalized_shape", "training", "train", "dtype", "layout", "device", "pin_memory", "memory_format"),
        *("N", "C", "HxW", "cudnn_enabled", "output_padding", "transposed", "non_blocking", "implicit", "split_size"),
        *("split_sizes", "bias", "start", "end", "step", "generator", "beta"),
    }
)


def describe(op: Op) -> str:
    """Name an operation as people do: "GELU (tanh)", "ReLU6"."""
    settings = op.settings
    if op.name == "hardtanh" and (settings.get("min_val"), settings.get("max_val")) == (0, 6):
        return "ReLU6"
    if op.name == "gelu":
        return "GELU (tanh)" if settings.get("approximate") == "tanh" else "GELU (exact)"
    return WORDS.get(op.name, op.name.replace("_", " "))


def settings_difference(ours: Op, theirs: Op) -> str | None:
    """Say which settings of two operations differ: "stride (2, 2), theirs (1, 1)"; None: none that counts."""
    if ours.name != theirs.name:
        return f"{describe(ours)}, theirs {describe(theirs)}" if describe(ours) != describe(theirs) else None
    names = [name for name in ours.settings if name in theirs.settings and name not in _INCIDENTAL]
    differing = [name for name in names if _plain(ours.settings[name]) != _plain(theirs.settings[name])]
    said = [f"{name} {_said(ours.settings[name])}, theirs {_said(theirs.settings[name])}" for name in differing]
    return "; ".join(said) or None


def _plain(value: Any) -> Any:
    """Return a setting such that (1,), [1, 1] and 1 are the same."""
    if isinstance(value, (list, tuple)):
        parts = [_plain(part) for part in value]
        return parts[0] if parts and all(part == parts[0] for part in parts) else tuple(parts)
    return value


def _said(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(tuple(value)) if isinstance(value, list) else str(value)
