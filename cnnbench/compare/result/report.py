"""All that was found: of a pair, and of several."""

from dataclasses import dataclass
from typing import Any

from cnnbench.compare.result.cost import Cost
from cnnbench.compare.result.memory import Memory
from cnnbench.compare.result.parity import Parity
from cnnbench.compare.result.published import Published
from cnnbench.compare.result.speed import Speed
from cnnbench.compare.result.training import Training


@dataclass(frozen=True)
class Comparison:
    """All that was found of one pair.

    Attributes:
        model: What was asked for: "resnet50", "my_package.nets:build_resnet".
        reference: What it was held against: "timm/resnet50".
        error: Why there is nothing more: the line that tells the user; None where all went well.
        top1: Published ImageNet-1k accuracy in percent of the weights of this model, where there are some.
        year: Of the paper, where the registry knows it.
        published: What papers state of this model; None: nothing is known, or it was measured with another image size
            or number of classes than its own.
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
    published: Published | None = None

    @property
    def equal(self) -> bool:
        """Whether nothing that was checked tells the two apart; speed and memory do not count."""
        return self.error is None and (self.parity is None or self.parity.passed)

    def __str__(self) -> str:
        """Return what the terminal shows of the pair."""
        from cnnbench.compare.text import block  # which writes the results of this package

        return "\n".join(block(self))


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

    def __str__(self) -> str:
        """Return what the terminal shows of all pairs."""
        from cnnbench.compare.text import report_text  # which writes the results of this package

        return report_text(self.comparisons)
