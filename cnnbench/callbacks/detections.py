"""What `predict` writes of detections: COCO's JSON, and pictures with boxes."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from cnnbench.callbacks.atomic import written_whole
from cnnbench.callbacks.pictures import shown, with_boxes, write_jpeg
from cnnbench.callbacks.shared_folder import SharedFolderWriter, why_nothing
from cnnbench.errors import UserError


class DetectionWriter(SharedFolderWriter):
    """Writes `predictions.json`, `images.json` and `pictures/`, whatever the number of processes.

    `predictions.json` is in COCO's results format, a list of `image_id`, `category_id`, `bbox` (x, y, width, height in
    pixels of the original image) and `score`, in the order of the data; `images.json` names the images and the
    categories as COCO's annotations do, `file_name` being the path in the folder of the images. COCO's own tools read
    both: `COCO("images.json").loadRes("predictions.json")`.

    Args:
        directory: Where to write; a file appears when it is complete.
        threshold: Lowest score of a box that is drawn; the JSON has all.
        pictures: How many images are drawn, the first ones; None: all.
    """

    def __init__(self, directory: Path, threshold: float = 0.5, pictures: int | None = None) -> None:
        super().__init__(directory)
        self.threshold, self.pictures = threshold, pictures
        self._images: dict[int, tuple[dict[str, Any], list[dict[str, Any]]]] = {}

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Learn what images and classes are called."""
        if self.pictures != 0:
            (self.directory / "pictures").mkdir(exist_ok=True)
        self._ids, self._categories = trainer.datamodule.image_ids("predict"), trainer.datamodule.category_ids

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Keep the detections of the batch, and draw them."""
        data = trainer.datamodule
        for place, (index, found) in enumerate(zip(outputs["index"].tolist(), outputs["detections"], strict=True)):
            height, width = batch["original_size"][place].tolist()
            # COCO's ids are numbers: an image that has a name instead is called by its place
            image_id = self._ids[index] if isinstance(self._ids[index], int) else index
            file_name = data.file_name("predict", index)
            image = {"id": image_id, "file_name": file_name, "height": height, "width": width}
            self._images[index] = image, self._annotations(image["id"], found)
            if self.pictures is None or index < self.pictures:
                picture = self._drawn(batch, place, found, data)
                write_jpeg(picture, self.directory / "pictures" / _file(index, file_name))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the detections of all processes and write them."""
        images = self._images
        if trainer.world_size > 1:
            shares: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(shares, images)
            images = {index: image for share in shares for index, image in share.items()}
        if not images:
            raise UserError(f"nothing was predicted: {why_nothing(trainer)}")
        if trainer.is_global_zero:
            self._write([images[index] for index in sorted(images)], trainer.datamodule.class_names)

    def _annotations(self, image_id: int, found: dict[str, Tensor]) -> list[dict[str, Any]]:
        columns = (found[name].tolist() for name in ("boxes", "labels", "scores"))
        return [
            {
                "image_id": image_id,
                "category_id": self._categories[label],
                "bbox": [round(number, 3) for number in (left, top, right - left, bottom - top)],
                "score": round(score, 6),
            }
            for (left, top, right, bottom), label, score in zip(*columns, strict=True)
        ]

    def _drawn(self, batch: dict[str, Tensor], place: int, found: dict[str, Tensor], data: Any) -> Tensor:
        height, width = batch["size"][place].tolist()
        image = shown(batch["image"][place][:, :height, :width], data.mean, data.std)
        sure = found["scores"] >= self.threshold
        boxes, labels, scores = (found[name][sure] for name in ("boxes", "labels", "scores"))
        named = zip(labels.tolist(), scores.tolist(), strict=True)
        texts = [f"{data.class_names[label]} {score:.2f}" for label, score in named]
        return with_boxes(image, boxes * batch["scale"][place].flip(0).repeat(2), labels, texts)

    def _write(self, images: list[tuple[dict[str, Any], list[dict[str, Any]]]], class_names: tuple[str, ...]) -> None:
        categories = [{"id": id, "name": name} for id, name in zip(self._categories, class_names, strict=True)]
        files = {
            "images.json": {"images": [image for image, _ in images], "categories": categories, "annotations": []},
            "predictions.json": [annotation for _, annotations in images for annotation in annotations],
        }
        for name, content in files.items():
            with written_whole(self.directory / name) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")


def _file(index: int, name: str) -> str:
    """Return the name of an image's picture: images of several folders may share theirs."""
    return f"{index:06d}_{Path(name).stem}.jpg" if Path(name).suffix else f"{index:06d}.jpg"
