"""What data modules of image files with boxes share: sizes, normalisation, decoding, and images to predict."""

import sys
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnbench.data import checks
from cnnbench.data.decoders import installed
from cnnbench.data.detection.annotations import Annotations
from cnnbench.data.detection.augment import Augmenter, DetectionAugmentation
from cnnbench.data.detection.base import DetectionDataModule
from cnnbench.data.detection.file_dataset import DetectionFiles
from cnnbench.data.detection.fit import Fit
from cnnbench.data.file_index import find_images
from cnnbench.data.folder import cores
from cnnbench.data.pixels import channel_statistics
from cnnbench.errors import UserError

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_LONGER = 5 / 3  # of the shorter side, at most: Faster R-CNN's 1,333 of 800
FLIPPED = DetectionAugmentation()
"""A horizontal flip, as the benchmarks' baselines are trained."""


@dataclass(frozen=True)
class Split:
    """Files of a split.

    Attributes:
        files: Their paths.
        ids: What each is called in COCO's format.
        annotations: Of each.
        notes: What a user is to know of what was left out.
    """

    files: Sequence[Path]
    ids: Sequence[int | str]
    annotations: Annotations
    notes: Sequence[str] = ()

    def subset(self, images: np.ndarray) -> "Split":
        """Return the images at these places, in this order."""
        files, ids = ([values[i] for i in images] for values in (self.files, self.ids))
        return Split(files, ids, self.annotations.subset(images), self.notes)


class DetectionFilesDataModule(DetectionDataModule):
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
    ) -> None:
        super().__init__(batch_size, image_size, cores() if num_workers is None else num_workers, in_chans)
        checks.per_channel("mean", mean, in_chans)
        checks.per_channel("std", std, in_chans, positive=True)
        if letterbox and max_size is not None:
            raise UserError("max_size does not go with letterbox, where image_size is that of the longer side")
        if max_size is not None and max_size < image_size:
            raise UserError(f"max_size is {max_size}: it must be at least image_size, {image_size}")
        self.root = Path(root)
        self.predict_root = None if predict_root is None else Path(predict_root)
        longer = image_size if letterbox else max_size or round(_LONGER * image_size)
        self.fit = Fit(image_size, longer, (image_size, image_size) if letterbox else (1, 1))
        self.augmentation = augmentation
        self.empty_images = empty_images
        self.decoder = installed(decoder)
        self._asked = {"mean": mean, "std": std}
        self._splits: dict[str, Split] = {}
        self._settle_normalisation()

    @abstractmethod
    def read(self, split: str) -> Split:
        """Read which images a split, `train`, `val` or `test`, has, and their objects.

        Raises:
            UserError: Something is missing, or is not what it should be.
        """

    def image_ids(self, split: str) -> list[int | str]:
        """Return what each image of a split is called in COCO's format, in the order of the dataset."""
        return list(self._splits[split].ids)

    def index_name(self, split: str, index: int) -> str:
        """Return the image's path."""
        return str(self._splits[split].files[int(index)])

    def box_sizes(self) -> Tensor:
        """Return width and height of all training objects, in pixels of the canvas: float32 (N, 2)."""
        annotations = self._splits["train"].annotations
        sizes = annotations.sizes.tolist()
        scales = torch.tensor([self.fit.size(*size) for size in sizes]) / torch.tensor(sizes)  # down and across
        boxes = annotations.objects.boxes
        wanted = ~annotations.objects.crowd
        return ((boxes[:, 2:] - boxes[:, :2]) * scales.flip(1).repeat_interleave(annotations.counts, 0))[wanted]

    def setup(self, stage: str = "fit") -> None:
        """Read what the stage needs, and take the normalisation that was not asked for from the model."""
        self._settle_normalisation()
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, (stage,)):
            if split not in self._splits:
                self._splits[split] = self._images_to_predict() if split == "predict" else self._checked(split)
            own, augmenter = self._splits[split], None
            if split == "train":
                augmenter = Augmenter(self.augmentation, self.fit, self.mean)
            self.datasets[split] = DetectionFiles(
                own.files, own.annotations, self.in_chans, self.decoder, self.fit, augmenter
            )

    def _checked(self, split: str) -> Split:
        """Read a split, leave out of training the images without objects, and refuse an empty set."""
        found = self.read(split)
        if not len(found.files):
            raise UserError(f"{self.root}: no images in the {split} set")
        if found.notes and self._processes()[1] == 0:
            print(*found.notes, sep="\n", file=sys.stderr)
        if split != "train" or self.empty_images:
            return found
        images = found.annotations.with_objects()
        if not len(images):
            raise UserError(f"{self.root}: none of the {len(found.files)} training images has an object to train on")
        return found.subset(images)

    def _images_to_predict(self) -> Split:
        if self.predict_root is None:
            return self.read("test" if self.has_test else "val")
        if not self.predict_root.is_dir():
            raise UserError(f"nothing to predict: {self.predict_root} is not a folder")
        return images_below(self.predict_root)

    def _settle_normalisation(self) -> None:
        model = None if self.trainer is None else self.trainer.lightning_module
        config = getattr(model, "pretrained_cfg", None) or {}
        for name, fallback in (("mean", _MEAN), ("std", _STD)):
            own = config.get(name) if isinstance(config, dict) else getattr(config, name, None)
            values = next(value for value in (self._asked[name], own, fallback) if value is not None)
            setattr(self, name, channel_statistics(values, self.in_chans))


def images_below(folder: Path) -> Split:
    """Return all images below a folder, called by their paths in it, and with no objects."""
    files = find_images(folder)
    ids = [path.relative_to(folder).as_posix() for path in files]
    return Split(files, ids, Annotations.none(len(files)))
