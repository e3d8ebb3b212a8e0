"""Follows receptive fields through every operator that a network runs, branches included."""

from collections.abc import Sequence
from math import isnan
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from cnnbench.analysis.call import Call
from cnnbench.analysis.field import Field, image_field
from cnnbench.analysis.mixing import pointwise, unknown
from cnnbench.analysis.operators import OPERATORS

EMPTIED = ("new_", "zeros", "ones", "empty", "full", "rand", "fill", "zero_", "bernoulli", "eye", "arange")


class FieldMode(TorchDispatchMode):
    """While active, remembers the receptive field of each tensor that depends on the image.

    Args:
        image: The network's input, (B, C, H, W).

    Attributes:
        gated: Whether a gate that sees the whole image was passed by.
        not_followed: The operators behind which fields are not known, in the order in which they came.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.gated = False
        self.not_followed: list[str] = []
        self._fields = WeakTensorKeyDictionary()
        self._fields[image] = image_field(image.shape)

    def field(self, tensor: Tensor) -> Field | None:
        """Return a tensor's field; None: it does not depend on the image."""
        return self._fields.get(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name not in OPERATORS and torch.Tag.pointwise not in func.tags:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if outputs:
            self._follow(func, args, kwargs, outputs)
        return result

    def _follow(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], outputs: list[Tensor]) -> None:
        name = func.overloadpacket.__name__
        arguments = func._schema.arguments
        given = {argument.name: argument.default_value for argument in arguments if argument.has_default_value()}
        given |= dict(zip((argument.name for argument in arguments), args, strict=False)) | kwargs
        call = Call(name, given, outputs, self.field, self._passed_gate)
        if not call.known() or name.startswith(EMPTIED) or name.endswith("_like"):
            return
        rule = OPERATORS.get(name) or (pointwise if torch.Tag.pointwise in func.tags else unknown)
        fields = rule(call)
        fields = fields if isinstance(fields, list) else [fields] * len(outputs)
        if _lost(fields) and not _lost([field for _, field in call.known()]):
            self.not_followed = list(dict.fromkeys([*self.not_followed, name]))
        for output, field in zip(outputs, fields, strict=True):
            self._fields[output] = field

    def _passed_gate(self) -> None:
        self.gated = True


def _lost(fields: Sequence[Field]) -> bool:
    return any(isnan(span.size) for field in fields for span in field.spans)
