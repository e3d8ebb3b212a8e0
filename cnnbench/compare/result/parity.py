"""Whether two networks are one function, and where they part if not."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Weights:
    """How the weights of one side came into the other.

    Attributes:
        method: "same keys" or "data flow".
        matched: Tensors that both sides share.
        ours: Tensors of our state dict.
        theirs: Tensors of theirs.
        differences: What does not match, a sentence each; empty where every tensor found its counterpart.
    """

    method: str
    matched: int
    ours: int
    theirs: int
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Divergence:
    """The first place where the two networks part.

    Attributes:
        module: Path of our module.
        reference_module: Path of theirs.
        cause: What differs in how the two are set up; None where that cannot be read off.
        input_error: Largest relative error of what goes in.
        output_error: Largest relative error of what comes out.
        tensors_behind: Entries of our state dict that are used after this place.
        mode: "eval" or "train", the mode in which it was seen.
    """

    module: str
    reference_module: str
    cause: str | None
    input_error: float
    output_error: float
    tensors_behind: int
    mode: str = "eval"


@dataclass(frozen=True)
class Errors:
    """Largest relative errors in float64, of both modes; None where there was nothing to compare."""

    logits: float | None = None
    features: float | None = None
    gradients: float | None = None
    buffers: float | None = None

    def worst(self) -> float:
        """The largest of all; infinite where nothing was compared."""
        known = [value for value in vars(self).values() if value is not None]
        return max(known, default=math.inf)


@dataclass(frozen=True)
class LayerError:
    """How far the outputs of a pair of matched layers are apart, in the order in which they run."""

    module: str
    reference_module: str
    error: float


@dataclass(frozen=True)
class Parity:
    """Whether both are one function.

    Attributes:
        passed: Every error is at most `tolerance`, and every tensor has its counterpart.
        tolerance: The largest relative error that rounding explains.
        weights: How the weights were exchanged.
        max_relative_error: What was compared, and how far it is apart.
        first_divergence: Where they part; None where they do not.
        layers: Every matched layer's error in evaluation mode.
        same_random_draws: Whether dropout and drop path draw the same numbers on both sides under one seed; None
            where neither side draws, or they are not one function. Two networks that are can still train apart for
            this.
        draws_difference: The first draw that differs, where they do not.
        notes: What does not count and is worth knowing, such as "ours returns a tuple of one, theirs a tensor".
    """

    passed: bool
    tolerance: float
    weights: Weights
    max_relative_error: Errors = field(default_factory=Errors)
    first_divergence: Divergence | None = None
    layers: list[LayerError] = field(default_factory=list)
    same_random_draws: bool | None = None
    draws_difference: str | None = None
    notes: list[str] = field(default_factory=list)
