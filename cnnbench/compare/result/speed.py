"""Which of two networks is faster."""

from dataclasses import dataclass

from cnnbench.compare.result.estimate import Estimate


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
