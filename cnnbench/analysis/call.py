"""One operator of torch at work, as the rules of receptive fields see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cnnbench.analysis.field import Field


@dataclass
class Call:
    """One operator at work.

    Attributes:
        name: The operator's, without its overload: "convolution".
        args: What it was given, by its parameters' names.
        outputs: The tensors that came out.
        fields: The field of a tensor; None where it does not depend on the image.
        passed_gate: Called where a gate was not followed.
    """

    name: str
    args: dict[str, Any]
    outputs: list[Tensor]
    fields: Callable[[Tensor], Field | None]
    passed_gate: Callable[[], None]

    @property
    def shape(self) -> Sequence[int]:
        """The shape of the first output."""
        return self.outputs[0].shape

    def tensors(self) -> list[Tensor]:
        """Return all tensors among the arguments."""
        values = [value if isinstance(value, list | tuple) else [value] for value in self.args.values()]
        return [item for items in values for item in items if isinstance(item, Tensor)]

    def known(self) -> list[tuple[Tensor, Field]]:
        """Return the tensors that depend on the image, and their fields."""
        pairs = [(tensor, self.fields(tensor)) for tensor in self.tensors()]
        return [(tensor, field) for tensor, field in pairs if field is not None]

    def main(self) -> Field | None:
        """Return the field of the first tensor."""
        return self.fields(self.tensors()[0])

    def position(self, name: str = "dim") -> int:
        """Return the dimension that an argument names, counted from the front."""
        return self.args[name] % len(self.main().dims)


def length(tensor: Tensor, position: int) -> int:
    """Return how many indices a tensor's dimension has."""
    return tensor.shape[position]
