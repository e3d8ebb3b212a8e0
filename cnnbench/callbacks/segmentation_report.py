"""What W&B shows at the end of a segmenter's fit: validation images with masks, those found and those there."""

from typing import Any

from PIL import Image
from torch import Tensor

from cnnbench.callbacks.images_report import ImagesReport
from cnnbench.callbacks.pictures import unpacked

_LONGER_SIDE = 1024  # pixels that a picture has at most


class SegmentationReport(ImagesReport):
    """Keeps the first images of the best validation with their masks, and logs them when fit ends."""

    def of_image(self, outputs: Any, batch: Any, place: int) -> dict[str, Any]:
        """Return the masks, of fewer pixels where they have very many."""
        found, there = outputs["classes"][place], outputs["masks"][place]
        step = -(-max(there.shape) // _LONGER_SIDE)
        return {"found": found[::step, ::step].cpu(), "there": there[::step, ::step].cpu()}

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
