"""What W&B shows at the end of a detector's fit: validation images with boxes, those found and those there."""

from typing import Any

from torch import Tensor

from cnnbench.callbacks.images_report import ImagesReport
from cnnbench.callbacks.pictures import unpacked


class DetectionReport(ImagesReport):
    """Keeps the first images of the best validation with their boxes, and logs them when fit ends."""

    def of_image(self, outputs: Any, batch: Any, place: int) -> dict[str, Any]:
        """Return the boxes, as parts of the image's sides."""
        borders = batch["original_size"][place].flip(0).repeat(2)
        found, there = outputs["detections"][place], outputs["truths"][place]
        return {"found": _relative(found, borders), "there": _relative(there, borders)}

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
