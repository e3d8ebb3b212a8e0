"""What writes into a run's directory in every process."""

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class SharedFolderWriter(Callback):
    """Writes into one folder, that of the first process, in all of them.

    Args:
        directory: Where to write; of the other processes it does not count.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder."""
        self.directory = Path(trainer.strategy.broadcast(str(self.directory)))


def why_nothing(trainer: Trainer) -> str:
    """Return why no image was predicted."""
    if trainer.limit_predict_batches == 0:
        return "trainer.limit_predict_batches is 0"
    return "none of the images can be read"
