"""What networks return, part by part: a tensor, or tuples, lists and dictionaries of tensors."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from cnnbench.compare.numbers import relative
from cnnbench.errors import UserError


def parts_of(output: Any, path: str = "") -> dict[str, Tensor]:
    """Return the tensors of an output by where they stand in it: "" of a lone tensor, "[1]", "[0]['boxes']".

    Those of a dictionary come in the order of their keys, whatever order they were put in.
    """
    if isinstance(output, Tensor):
        return {path: output}
    if is_dataclass(output) and not isinstance(output, type):
        output = {item.name: getattr(output, item.name) for item in fields(output)}
    if isinstance(output, Mapping):
        items = [(f"[{key!r}]", output[key]) for key in sorted(output, key=str)]
    elif isinstance(output, (list, tuple)):
        items = [(f"[{place}]", value) for place, value in enumerate(output)]
    else:
        return {}
    return {key: part for step, value in items for key, part in parts_of(value, path + step).items()}


def described(output: Any) -> str:
    """Return what a network returns: "a tensor", "a tuple of one", "a dict of 3", "Answer"."""
    if isinstance(output, Tensor):
        return "a tensor"
    if not isinstance(output, (Mapping, list, tuple)):
        return type(output).__name__
    return f"a {type(output).__name__} of {'one' if len(output) == 1 else len(output)}"


def paired(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the tensors of two outputs that correspond: by their places, or else by their order."""
    if ours.keys() == theirs.keys():
        return [(ours[path], theirs[path]) for path in ours]
    return list(zip(ours.values(), theirs.values(), strict=False))


def error(ours: Tensor, theirs: Tensor, scale: float | None = None) -> float:
    """Return the largest deviation relative to the largest number of theirs, or to another scale."""
    if ours.shape != theirs.shape:
        return math.inf
    ours, theirs = ours.double(), theirs.double()
    if not (ours.isfinite().all() and theirs.isfinite().all()):
        return math.inf
    return relative(largest(ours - theirs), largest(theirs) if scale is None else scale)


def largest(tensor: Tensor) -> float:
    """Return the largest magnitude in a tensor; 0 of an empty one."""
    return tensor.abs().max().item() if tensor.numel() else 0.0


def check_shapes(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], batch: int) -> None:
    """Check that two networks put out an image's answers in the same shapes.

    What is not a row an image, such as the boxes that a detector finds, may differ in length.

    Raises:
        UserError: They do not.
    """
    for mine, other in paired(ours, theirs):
        if mine.shape == other.shape or not (len(mine) == len(other) == batch if mine.ndim and other.ndim else True):
            continue
        if mine.ndim == other.ndim == 2:
            raise UserError(
                f"ours puts out {mine.shape[1]} classes, theirs {other.shape[1]}: give both one `num_classes`"
            )
        raise UserError(f"ours puts out {_shape(mine)} an image, theirs {_shape(other)}: they cannot be compared")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape[1:])) or "one number"
