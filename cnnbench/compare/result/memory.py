"""How much memory two networks take."""

from dataclasses import dataclass


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
