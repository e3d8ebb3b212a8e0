"""What W&B shows at the end of a detector's fit: validation images with boxes, those found and those there."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from cnnbench.callbacks.best_report import BestReport
from cnnbench.callbacks.pictures import packed, shown, unpacked


class DetectionReport(BestReport):
    """Keeps the first images of the best validation with their boxes, and logs them when fit ends.

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
        for place, (found, there) in enumerate(zip(outputs["detections"], outputs["truths"], strict=True)):
            index = int(batch["index"][place])
            if index < self.images:
                height, width = batch["size"][place].tolist()
                image = shown(batch["image"][place][:, :height, :width], data.mean, data.std)
                borders = batch["original_size"][place].flip(0).repeat(2)
                boxes = {"found": _relative(found, borders), "there": _relative(there, borders)}
                self._kept.append({"index": index, "image": packed(image), **boxes})

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather over the processes."""
        if trainer.world_size > 1:
            shares: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(shares, self._kept)
            self._kept = [kept for share in shares for kept in share]
        self._kept = sorted(self._kept, key=lambda kept: kept["index"])

    def collected(self) -> dict[str, Any]:
        """Return the images and their boxes."""
        return {"images": self._kept}

    def logged(self, collected: dict[str, Any], data: Any) -> dict[str, Any]:
        """Return the images as W&B shows them, with boxes to switch on and off."""
        import wandb

        names = dict(enumerate(data.class_names))
        return {
            "val/detections": [
                wandb.Image(
                    unpacked(kept["image"]),
                    caption=data.index_name("val", kept["index"]),
                    boxes={
                        "predictions": {"box_data": _box_data(kept["found"], names), "class_labels": names},
                        "ground_truth": {"box_data": _box_data(kept["there"], names), "class_labels": names},
                    },
                )
                for kept in collected["images"]
            ]
        }


def _relative(boxes: dict[str, Tensor], borders: Tensor) -> dict[str, Tensor]:
    """Return boxes as parts of the image's width and height, on the CPU."""
    kept = {name: boxes[name].cpu() for name in ("labels", "scores") if name in boxes}
    return kept | {"boxes": (boxes["boxes"] / borders).clamp(0, 1).cpu()}


def _box_data(boxes: dict[str, Tensor], names: dict[int, str]) -> list[dict[str, Any]]:
    labels = boxes["labels"].tolist()
    scores = boxes["scores"].tolist() if "scores" in boxes else [None] * len(labels)
    corners = ("minX", "minY", "maxX", "maxY")
    return [
        {"position": dict(zip(corners, box, strict=True)), "class_id": label, "box_caption": names[label]}
        | ({} if score is None else {"scores": {"score": score}, "box_caption": f"{names[label]} {score:.2f}"})
        for box, label, score in zip(boxes["boxes"].tolist(), labels, scores, strict=True)
    ]
