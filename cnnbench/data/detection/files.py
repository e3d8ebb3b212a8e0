"""What data modules of image files with boxes share: sizes, augmentation, and how boxes are read."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.detection.annotations import Annotations
from cnnbench.data.detection.augment import Augmenter, DetectionAugmentation
from cnnbench.data.detection.base import DetectionDataModule
from cnnbench.data.detection.file_dataset import DetectionFiles
from cnnbench.data.detection.fit import Fit
from cnnbench.data.file_index import find_images
from cnnbench.data.files import AnnotatedFilesDataModule
from cnnbench.errors import UserError

_LONGER = 5 / 3  # of the shorter side, at most: Faster R-CNN's 1,333 of 800
FLIPPED = DetectionAugmentation()
"""A horizontal flip, as the benchmarks' baselines are trained."""


@dataclass(frozen=True)
class Split:
    """Files of a split.

    Attributes:
        files: Their paths.
        folder: That COCO's format names them below.
        ids: What each is called in COCO's format.
        annotations: Of each.
        notes: What a user is to know of what was left out.
    """

    files: Sequence[Path]
    folder: Path
    ids: Sequence[int | str]
    annotations: Annotations
    notes: Sequence[str] = ()

    def subset(self, images: np.ndarray) -> "Split":
        """Return the images at these places, in this order."""
        files, ids = ([values[i] for i in images] for values in (self.files, self.ids))
        return Split(files, self.folder, ids, self.annotations.subset(images), self.notes)


class DetectionFilesDataModule(AnnotatedFilesDataModule, DetectionDataModule):
    """Image files with boxes: subclasses say in `read` what their splits are.

    Args:
        root: Folder of the data.
        predict_root: Images to predict, any below this folder; None: those of the test set, else of validation.
        batch_size: Images a process and step.
        image_size: Pixels of the shorter side; with `letterbox`, of the longer one.
        max_size: Most pixels of the longer side; None: 5/3 of `image_size`.
        letterbox: Bring the longer side to `image_size`, and pad to a square: all batches are of one shape.
        num_workers: Processes that decode images; None: one a processor core, at most 8.
        in_chans: 3 for RGB images, 1 for grey.
        augmentation: How training images vary.
        empty_images: Train on images without objects, too.
        mean: Of pixels in 0..1; None: the model's, else ImageNet's.
        std: The same.
        decoder: `auto` is the fastest that is installed, of simplejpeg, torchvision and pil.
        on_error: What to do with a file that is not a whole image: `raise`, or `skip` it.
    """

    def __init__(
        self,
        root: str,
        predict_root: str | None,
        batch_size: int,
        image_size: int,
        max_size: int | None,
        letterbox: bool,
        num_workers: int | None,
        in_chans: int,
        augmentation: DetectionAugmentation,
        empty_images: bool,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        decoder: str,
        on_error: str,
    ) -> None:
        super().__init__(
            *(root, predict_root, batch_size, image_size, num_workers, in_chans, decoder, mean, std, on_error)
        )
        if letterbox and max_size is not None:
            raise UserError("max_size does not go with letterbox, where image_size is that of the longer side")
        if max_size is not None and max_size < image_size:
            raise UserError(f"max_size is {max_size}: it must be at least image_size, {image_size}")
        longer = image_size if letterbox else max_size or round(_LONGER * image_size)
        self.fit = Fit(image_size, longer, (image_size, image_size) if letterbox else (1, 1))
        self.augmentation = augmentation
        self.empty_images = empty_images

    def image_ids(self, split: str) -> list[int | str]:
        """Return what each image of a split is called in COCO's format, in the order of the dataset."""
        return list(self._splits[split].ids)

    def box_sizes(self) -> Tensor:
        """Return width and height of all training objects, in pixels of the canvas: float32 (N, 2)."""
        annotations = self._splits["train"].annotations
        sizes = annotations.sizes.tolist()
        scales = torch.tensor([self.fit.size(*size) for size in sizes]) / torch.tensor(sizes)  # down and across
        boxes = annotations.objects.boxes
        wanted = annotations.objects.to_train_on
        return ((boxes[:, 2:] - boxes[:, :2]) * scales.flip(1).repeat_interleave(annotations.counts, 0))[wanted]

    def without_annotations(self, folder: Path) -> Split:
        """Return all images below a folder, called by their paths in it, and with no objects."""
        files = find_images(folder)
        ids = [path.relative_to(folder).as_posix() for path in files]
        return Split(files, folder, ids, Annotations.none(len(files)))

    def dataset(self, split: str, files: Split) -> DetectionFiles:
        """Return a split as a dataset."""
        augmenter = Augmenter(self.augmentation, self.fit, self.mean) if split == "train" else None
        how = self.in_chans, self.decoder, self.fit, augmenter, self.on_error == "skip"
        return DetectionFiles(files.files, files.annotations, *how)

    def checked(self, split: str) -> Split:
        """Read a split, leave out of training the images without objects, and refuse an empty set."""
        found = super().checked(split)
        if found.notes and self._processes()[1] == 0:
            print(*found.notes, sep="\n", file=sys.stderr)
        if split != "train" or self.empty_images:
            return found
        images = found.annotations.with_objects()
        if not len(images):
            raise UserError(f"{self.root}: none of the {len(found.files)} training images has an object to train on")
        return found.subset(images)
