"""What W&B shows of the first validation images when a fit ends: what was found in them, and what is there."""

from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from cnnbench.callbacks.best_report import BestReport
from cnnbench.callbacks.pictures import packed, shown


class ImagesReport(BestReport):
    """Keeps the first images of the best validation with what a subclass tells of them, and logs them when fit ends.

    Args:
        images: How many.
    """

    def __init__(self, images: int = 16) -> None:
        super().__init__()
        self.images = images

    @abstractmethod
    def of_image(self, outputs: Any, batch: Any, place: int) -> dict[str, Any]:
        """Return what is to be kept of one image of a batch, as tensors on the CPU and plain values."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._kept: list[dict[str, Any]] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Keep the images that are among the first, of those that count."""
        data = trainer.datamodule
        for place in range(len(next(iter(outputs.values())))):
            index = int(batch["index"][place])
            if index < self.images:
                height, width = batch["size"][place].tolist()
                image = shown(batch["image"][place][:, :height, :width], data.mean, data.std)
                self._kept.append({"index": index, "image": packed(image), **self.of_image(outputs, batch, place)})

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather over the processes."""
        if trainer.world_size > 1:
            shares: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(shares, self._kept)
            self._kept = [kept for share in shares for kept in share]
        self._kept = sorted(self._kept, key=lambda kept: kept["index"])

    def collected(self) -> dict[str, Any]:
        """Return the images and what was kept of them."""
        return {"images": self._kept}
