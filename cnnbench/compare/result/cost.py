"""What two networks cost."""

from dataclasses import dataclass, field


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
