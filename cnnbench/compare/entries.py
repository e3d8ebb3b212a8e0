"""Tensors of one network and their counterparts in another: the result of an alignment."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Rows = tuple[int, int]
"""The first row and the one behind the last."""


@dataclass(frozen=True)
class Entry:
    """A tensor of the source and its counterpart in the target.

    Attributes:
        source: Its key.
        target: Its counterpart's key.
        turn: Whether rows and columns change places on the way.
        source_rows: Where the counterpart is a part of it only, such as the queries' of a joint projection.
        target_rows: Where it is a part of its counterpart only.
    """

    source: str
    target: str
    turn: bool = False
    source_rows: Rows | None = None
    target_rows: Rows | None = None

    @property
    def whole(self) -> bool:
        """Whether both are one tensor."""
        return self.source_rows is None and self.target_rows is None

    def convert(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the source's tensor as the target has it: all of it, or `target_rows` of it.

        Args:
            tensor: All of the source's.
            shape: Of all of the target's.
        """
        tensor = tensor if self.source_rows is None else tensor[slice(*self.source_rows)]
        shape = shape if self.target_rows is None else (self.target_rows[1] - self.target_rows[0], *shape[1:])
        return (tensor.flatten(1).t() if self.turn else tensor).reshape(shape).contiguous()

    def counterpart(self, tensor: Tensor) -> Tensor:
        """Return of the target's tensor what corresponds to the source's."""
        return tensor if self.target_rows is None else tensor[slice(*self.target_rows)]

    def inverse(self) -> "Entry":
        """Return the same from the target to the source."""
        return Entry(self.target, self.source, self.turn, self.target_rows, self.source_rows)


@dataclass(frozen=True)
class Alignment:
    """The tensors of two networks side by side.

    Attributes:
        method: "same keys" or "data flow".
        entries: Each pair of tensors.
        differences: What has no counterpart, a sentence each, "ours" being the source.
    """

    method: str
    entries: tuple[Entry, ...]
    differences: tuple[str, ...] = ()

    @property
    def mapping(self) -> dict[str, str]:
        """Keys of the source and their counterparts in the target; the last of those that share a source."""
        return {entry.source: entry.target for entry in self.entries}

    def convert(self, state_dict: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the source's tensors under the target's keys and in its shapes.

        Args:
            state_dict: Of the source.
            target: State dict of the target; what has no counterpart is taken from it.
        """
        converted = dict(target)
        for entry in self.entries:
            tensor = entry.convert(state_dict[entry.source], tuple(target[entry.target].shape))
            if entry.target_rows is not None:
                part, tensor = tensor, converted[entry.target].clone()
                tensor[slice(*entry.target_rows)] = part
            converted[entry.target] = tensor
        return converted

    def inverse(self) -> "Alignment":
        """Return the same from the target to the source."""
        return Alignment(self.method, tuple(entry.inverse() for entry in self.entries), self.differences)
