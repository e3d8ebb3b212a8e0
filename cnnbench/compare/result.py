"""What a comparison finds: plain values that print, serialise and travel between processes.

"Ours" is the network that was named, "theirs" the one it is held against, whoever wrote either. A part that was not
asked for is None.
"""

import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Estimate:
    """A median and its bootstrap 95 % interval."""

    median: float
    low: float
    high: float


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
    """

    passed: bool
    tolerance: float
    weights: Weights
    max_relative_error: Errors = field(default_factory=Errors)
    first_divergence: Divergence | None = None
    layers: list[LayerError] = field(default_factory=list)
    same_random_draws: bool | None = None
    draws_difference: str | None = None


@dataclass(frozen=True)
class StageCost:
    """What a top-level part of a network costs for one image."""

    name: str
    parameters: int
    macs: int
    activations: int


@dataclass(frozen=True)
class SideCost:
    """What a network costs for one image; multiply-adds are counted with unfused attention.

    Attributes:
        parameters: Trained numbers.
        macs: Multiply-adds.
        activations: Numbers that convolutions, linear layers and attention products put out.
        stages: The same by the parts of the network, in their order.
    """

    parameters: int
    macs: int
    activations: int
    stages: list[StageCost] = field(default_factory=list)


@dataclass(frozen=True)
class Cost:
    """What both sides cost."""

    ours: SideCost
    theirs: SideCost


@dataclass(frozen=True)
class Contest:
    """One thing timed on both sides, interleaved.

    Attributes:
        speedup: Their time over ours: above 1 ours is faster. By the wall clock.
        control: The same of theirs against its own copy: what this machine resolves.
        cpu_speedup: As `speedup`, in processor time; None on an accelerator.
        cpu_control: As `control`, in processor time.
        images_per_second: Of ours and of theirs.
        pairs: How many pairs were timed.
        verdict: In words.
    """

    speedup: Estimate
    control: Estimate
    cpu_speedup: Estimate | None
    cpu_control: Estimate | None
    images_per_second: tuple[float, float]
    pairs: int
    verdict: str


@dataclass(frozen=True)
class Served:
    """A side at its best: as it would be deployed.

    Attributes:
        options: What was switched on, such as "channels_last, folded BatchNorm".
        images_per_second: Then.
        gain: Its time as it was over its time now.
        relative_error: What that costs in accuracy of the logits, against float64.
    """

    options: str
    images_per_second: float
    gain: Estimate
    relative_error: float


@dataclass(frozen=True)
class Speed:
    """Which side is faster; a part that was not timed is None.

    Attributes:
        batch_size: Images at a time.
        forward: Evaluation mode, no gradients.
        train_step: Forward, backward and update.
        served: Ours and theirs, each at its best.
        served_contest: Both at their best against each other.
        image_size: Height and width of the images.
    """

    batch_size: int
    forward: Contest | None
    train_step: Contest | None
    served: tuple[Served, Served] | None = None
    served_contest: Contest | None = None
    image_size: int | None = None


@dataclass(frozen=True)
class Memory:
    """Peak memory of a training step in bytes, each side in a process of its own on a CPU.

    Attributes:
        ours: Of ours.
        theirs: Of theirs.
        batch_size: Images a step, of both.
        image_size: Height and width of the images.
    """

    ours: int
    theirs: int
    batch_size: int
    image_size: int | None = None

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs


@dataclass(frozen=True)
class Duel:
    """One pair of training runs under one seed.

    Attributes:
        seed: Of data, augmentation and random draws.
        steps: Optimiser steps of each.
        first_different_step: The first step, from 1, at which the losses are not the same float32; None: never.
        largest_difference: Of the losses, absolute, over all steps.
        losses: Of every step, ours and theirs.
        metrics: Final figures by name, ours and theirs, such as {"test/accuracy": (0.98, 0.98)}.
        seconds_per_step: Median, ours and theirs.
    """

    seed: int
    steps: int
    first_different_step: int | None
    largest_difference: float
    losses: tuple[list[float], list[float]]
    metrics: dict[str, tuple[float, float]]
    seconds_per_step: tuple[float, float]


@dataclass(frozen=True)
class MetricSummary:
    """A final figure over all seeds: mean and standard deviation of each side, and the paired difference."""

    name: str
    ours: tuple[float, float]
    theirs: tuple[float, float]
    difference: Estimate


@dataclass(frozen=True)
class Training:
    """Both sides trained by one recipe from the same weights on the same batches."""

    config: str
    duels: list[Duel]
    metrics: list[MetricSummary]
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """All that was found of one pair.

    Attributes:
        model: What was asked for: "resnet50", "my_package.nets:build_resnet".
        reference: What it was held against: "timm/resnet50".
        error: Why there is nothing more: the line that tells the user; None where all went well.
        top1: Published ImageNet-1k accuracy in percent of the weights of this model, where there are some.
        year: Of the paper, where the registry knows it.
    """

    model: str
    reference: str
    parity: Parity | None = None
    cost: Cost | None = None
    speed: Speed | None = None
    memory: Memory | None = None
    training: Training | None = None
    error: str | None = None
    top1: float | None = None
    year: int | None = None

    @property
    def equal(self) -> bool:
        """Whether nothing that was checked tells the two apart; speed and memory do not count."""
        return self.error is None and (self.parity is None or self.parity.passed)


@dataclass(frozen=True)
class Report:
    """Comparisons, and what they were made on.

    Attributes:
        environment: Processor, threads, precision, memory format, versions, seed, commit.
        command: The command line that repeats it; None from Python.
        comparisons: One a pair.
    """

    environment: dict[str, Any]
    command: str | None
    comparisons: list[Comparison]

    @property
    def equal(self) -> bool:
        """Whether all pairs are equal."""
        return all(comparison.equal for comparison in self.comparisons)


def to_json(value: Any) -> Any:
    """Return a result as dictionaries, lists and numbers; what is not finite becomes its name, such as "inf"."""
    if is_dataclass(value):
        return to_json(asdict(value))
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: Any, value: Any) -> Any:
    """Return what `to_json` made of an instance of `kind` as that instance.

    Args:
        kind: One of the classes of this module, or the type of one of their attributes.
        value: Dictionaries, lists and numbers.
    """
    if get_origin(kind) in (Union, UnionType):
        kinds = [option for option in get_args(kind) if option is not type(None)]
        return None if value is None else from_json(kinds[0], value)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{item.name: from_json(hints[item.name], value[item.name]) for item in fields(kind)})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list:
        return [from_json(arguments[0], item) for item in value]
    if origin is tuple:
        return tuple(from_json(argument, item) for argument, item in zip(arguments, value, strict=True))
    if origin is dict:
        return {key: from_json(arguments[1], item) for key, item in value.items()}
    return float(value) if kind is float else value
