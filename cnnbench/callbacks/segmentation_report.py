"""What W&B shows at the end of a segmenter's fit: validation images with masks, those found and those there."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from cnnbench.callbacks.best_report import BestReport
from cnnbench.callbacks.pictures import packed, shown, unpacked

_LONGER_SIDE = 1024  # pixels that a picture has at most


class SegmentationReport(BestReport):
    """Keeps the first images of the best validation with their masks, and logs them when fit ends.

    Args:
        images: How many.
    """

    def __init__(self, images: int = 16) -> None:
        super().__init__()
        self.images = images

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._kept: list[dict[str, Any]] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Keep the images that are among the first, with what was found and what is there."""
        data = trainer.datamodule
        for place, (found, there) in enumerate(zip(outputs["classes"], outputs["masks"], strict=True)):
            index = int(batch["index"][place])
            if index < self.images:
                height, width = batch["size"][place].tolist()
                image = shown(batch["image"][place][:, :height, :width], data.mean, data.std)
                step = -(-max(there.shape) // _LONGER_SIDE)
                masks = {"found": found[::step, ::step].cpu(), "there": there[::step, ::step].cpu()}
                self._kept.append({"index": index, "image": packed(image), **masks})

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather over the processes."""
        if trainer.world_size > 1:
            shares: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(shares, self._kept)
            self._kept = [kept for share in shares for kept in share]
        self._kept = sorted(self._kept, key=lambda kept: kept["index"])

    def collected(self) -> dict[str, Any]:
        """Return the images and their masks."""
        return {"images": self._kept}

    def logged(self, collected: dict[str, Any], data: Any) -> dict[str, Any]:
        """Return the images as W&B shows them, with masks to switch on and off."""
        import wandb

        names = dict(enumerate(data.class_names)) | {255: "not counted"}
        return {
            "val/masks": [
                wandb.Image(
                    unpacked(kept["image"]).resize(_size(kept["there"]), Image.Resampling.BILINEAR),
                    caption=data.index_name("val", kept["index"]),
                    masks={
                        "predictions": {"mask_data": kept["found"].numpy(), "class_labels": names},
                        "ground_truth": {"mask_data": kept["there"].numpy(), "class_labels": names},
                    },
                )
                for kept in collected["images"]
            ]
        }


def _size(mask: Tensor) -> tuple[int, int]:
    """Return width and height, as PIL has them."""
    return mask.shape[1], mask.shape[0]
