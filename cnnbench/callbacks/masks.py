"""What `predict` writes of segmentation: masks as indexed PNGs, and pictures with the classes laid over."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torchvision.utils import draw_segmentation_masks

from cnnbench.callbacks.atomic import written_whole
from cnnbench.callbacks.pictures import shown, write_jpeg
from cnnbench.callbacks.shared_folder import SharedFolderWriter, why_nothing
from cnnbench.errors import UserError

_OPACITY = 0.55  # of a class on a picture


class MaskWriter(SharedFolderWriter):
    """Writes `masks/`, `pictures/` and `classes.csv`, whatever the number of processes.

    `masks/` has a PNG for each image, of its size, whose pixels are classes and whose palette is VOC's; `pictures/` has
    the images with the classes' colours laid over, but for the first class, the background; `classes.csv` says what
    each class is called and its colour. A mask is called as its image, and lies as deep, so that a data module reads
    both: of `a/1.jpg` it is `a/1.png`; where another image differs in its ending alone, `a/1.jpg.png`.

    Args:
        directory: Where to write; a file appears when it is complete.
        pictures: How many images are drawn, the first ones; None: all.
    """

    def __init__(self, directory: Path, pictures: int | None = None) -> None:
        super().__init__(directory)
        self.pictures = pictures
        self._written = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Create the folders, and say what the classes are."""
        data = trainer.datamodule
        names = data.class_names
        self._names = output_names([data.file_name("predict", i) for i in range(len(data.datasets["predict"]))])
        self._palette = palette(256)
        (self.directory / "masks").mkdir(exist_ok=True)
        if self.pictures != 0:
            (self.directory / "pictures").mkdir(exist_ok=True)
        if trainer.is_global_zero:
            named = enumerate(zip(names, self._palette, strict=False))
            path = self.directory / "classes.csv"
            with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(("id", "name", "red", "green", "blue"))
                writer.writerows((id, name, *colour) for id, (name, colour) in named)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Write the masks of the batch, and draw them."""
        data = trainer.datamodule
        for place, (index, classes) in enumerate(zip(outputs["index"].tolist(), outputs["classes"], strict=True)):
            self._write_mask(classes.cpu(), self._path("masks", index, "png"))
            if self.pictures is None or index < self.pictures:
                height, width = batch["size"][place].tolist()
                image = shown(batch["image"][place][:, :height, :width], data.mean, data.std)
                picture = self._drawn(image, classes.cpu(), len(data.class_names))
                write_jpeg(picture, self._path("pictures", index, "jpg"))
            self._written += 1

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to end with nothing."""
        own = torch.tensor(self._written, device=trainer.strategy.root_device)
        if not trainer.strategy.reduce(own, reduce_op="sum") and trainer.is_global_zero:
            raise UserError(f"nothing was predicted: {why_nothing(trainer)}")

    def _path(self, folder: str, index: int, ending: str) -> Path:
        """Return where a file of an image goes, in a folder that is there."""
        path = self.directory / folder / f"{self._names[index]}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write_mask(self, classes: Tensor, path: Path) -> None:
        image = Image.fromarray(classes.numpy(), mode="P")
        image.putpalette([part for colour in self._palette for part in colour])
        with written_whole(path) as temporary:
            image.save(temporary, format="png")

    def _drawn(self, image: Tensor, classes: Tensor, count: int) -> Tensor:
        image = image.expand(3, -1, -1)
        if image.shape[1:] != classes.shape:
            size = list(classes.shape)
            image = torch.nn.functional.interpolate(image[None].float(), size, mode="bilinear")[0].round().byte()
        ids = torch.arange(1, count, dtype=torch.uint8)[:, None, None]
        return draw_segmentation_masks(image, classes == ids, alpha=_OPACITY, colors=self._palette[1:count])


def palette(count: int) -> list[tuple[int, int, int]]:
    """Return VOC's colours of the first classes: three bits of a class at a time, from the colours' highest down."""

    def part(label: int, channel: int) -> int:
        return sum((label >> (3 * place + channel) & 1) << (7 - place) for place in range(8))

    return [tuple(part(label, channel) for channel in range(3)) for label in range(count)]


def output_names(files: Sequence[str]) -> list[str]:
    """Return the names of images' files without their ending, or with it where another image has the same without."""
    short = [PurePosixPath(file).with_suffix("").as_posix() for file in files]
    times, whole = Counter(short), {*files}
    return [
        file if times[name] > 1 or (name != file and name in whole) else name
        for file, name in zip(files, short, strict=True)
    ]
