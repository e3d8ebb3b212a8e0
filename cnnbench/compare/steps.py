"""What a run of a network consists of: operations, the parameters that they use, and what was drawn."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cnnbench.compare.numbers import Fingerprint, Sample

IMAGE = 0  # the value that the image is


@dataclass(frozen=True)
class Use:
    """A parameter, or what was made of parameters alone, where an operation takes it in.

    Attributes:
        keys: Entries of the state dict that it was made of.
        shape: Of the (first) entry.
        turned: Whether its dimensions were swapped on the way.
        joined: Whether the entries lie behind one another, as the rows of one that the other network has.
    """

    keys: tuple[str, ...]
    shape: tuple[int, ...]
    turned: bool = False
    joined: bool = False


@dataclass
class Op:
    """One operation that depends on the image.

    Attributes:
        index: Its place in the order of execution.
        name: See `NAMES`.
        module: Path of the module in whose call it ran.
        settings: What it was given beside tensors, by its parameters' names.
        inputs: (parameter's name, value) of every tensor that depends on the image, in order.
        uses: Parameters by the parameter's name they are given for.
        outputs: The values that come out.
        shape: Of the first output.
        again: Applies the operation to other tensors in place of its inputs; of those that compute number by number.
        taken: Sample of the first input; of operations with parameters, in a run that keeps numbers.
        given: Sample of the first output, likewise.
    """

    index: int
    name: str
    module: str
    settings: dict[str, Any]
    inputs: list[tuple[str, int]]
    uses: dict[str, Use]
    outputs: list[int]
    shape: tuple[int, ...]
    again: Callable[..., Any] | None = None
    taken: Sample | None = None
    given: Sample | None = None


@dataclass(frozen=True)
class Draw:
    """Random numbers that were drawn.

    Attributes:
        module: Path of the module in whose call.
        name: Of the operation.
        shape: Of the numbers.
        rate: What the operation was told beside, such as the probability of a one.
    """

    module: str
    name: str
    shape: tuple[int, ...]
    rate: float | None


@dataclass
class Trace:
    """A whole run.

    Attributes:
        ops: In order of execution.
        outputs: The values of the network's output tensors; -1 for one that does not depend on the image.
        fingerprints: Of every value, in a run that keeps numbers. Value 0 is the image.
        maker: The operation that put out a value.
        shapes: Of every value.
        results: The output tensors themselves.
        draws: In order.
        idle: Modules that passed on what they were given, and which value that was.
        modules: Paths of all modules there are.
    """

    ops: list[Op] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    fingerprints: dict[int, Fingerprint] = field(default_factory=dict)
    maker: dict[int, Op] = field(default_factory=dict)
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    results: list[Tensor] = field(default_factory=list)
    draws: list[Draw] = field(default_factory=list)
    idle: list[tuple[str, int]] = field(default_factory=list)
    modules: frozenset[str] = frozenset()
