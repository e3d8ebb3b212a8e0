"""Folders of images with a folder a class, as ImageNet's."""

import sys
from pathlib import Path

import numpy as np

from cnnbench.data import checks
from cnnbench.data.file_dataset import FileDataset
from cnnbench.data.file_index import EXTENSIONS, ImageFiles, find_classes, find_images
from cnnbench.data.files import FilesDataModule
from cnnbench.data.memory import stratified_split
from cnnbench.data.views import INTERPOLATIONS, EvalView, FolderAugmentation, TrainView
from cnnbench.errors import UserError, did_you_mean

_DEFAULT_AUGMENTATION = FolderAugmentation()
_NAMED = 5  # names that a message has at most

Files = tuple[ImageFiles, np.ndarray | None]
"""Paths and, where they are known, labels."""


class ImageFolderDataModule(FilesDataModule):
    """`root/train/<class>/*`, `root/val/<class>/*` and, if there is one, `root/test/<class>/*`.

    Images are decoded in worker processes and stay uint8 until they are on the device.

    Args:
        root: Folder of the data.
        class_names: Names of the classes, in the order of the labels; by default the folders of `train`.
        predict_root: Images to predict, any below this folder; by default those of `test`, else of `val`, and where
            the classes are named and have no folders, all below `root`.
        val_fraction: Part of the training images to validate on, where there is no `val` folder; stratified,
            fixed.
        batch_size: Images a process and step.
        image_size: Height and width that images are brought to.
        num_workers: Processes that decode images; by default one a processor core, at most 8.
        in_chans: 3 for RGB images, 1 for grey.
        augmentation: How training images vary; by default a random crop and a horizontal flip.
        mean: Of pixels in 0..1; by default the model's, else ImageNet's.
        std: The same.
        interpolation: nearest, bilinear or bicubic; by default the model's, else bilinear.
        crop_pct: Part of the shorter side that evaluation keeps; by default the model's, else 0.875; more than 1 adds a
            black border.
        decoder: `auto` is the fastest that is installed, of simplejpeg (`pip install cnnbench[fast]`), torchvision and
            pil; they give the same pixels. `pil` resamples by PIL too: evaluation is then timm's, to the last bit,
            more slowly.
        on_error: What to do with a file that is not a whole image: `raise`, or `skip` it; what was skipped is counted
            and listed at the end.
    """

    def __init__(
        self,
        root: str = "data",
        class_names: tuple[str, ...] | None = None,
        predict_root: str | None = None,
        val_fraction: float | None = None,
        batch_size: int = 64,
        image_size: int = 224,
        num_workers: int | None = None,
        in_chans: int = 3,
        augmentation: FolderAugmentation = _DEFAULT_AUGMENTATION,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        interpolation: str | None = None,
        crop_pct: float | None = None,
        decoder: str = "auto",
        on_error: str = "raise",
    ) -> None:
        super().__init__(
            *(root, predict_root, batch_size, image_size, num_workers, in_chans, decoder, mean, std, on_error),
            interpolation=interpolation,
            crop_pct=crop_pct,
        )
        checks.one_of("interpolation", interpolation, (None, *INTERPOLATIONS))
        for name, value, most in (("val_fraction", val_fraction, 1), ("crop_pct", crop_pct, 2)):
            if value is not None and not 0 < value <= most:
                raise UserError(f"{name} is {value}: it must be above 0 and at most {most}")
        self.val_fraction = val_fraction
        self.augmentation = augmentation
        self._files: dict[str, Files] = {}
        self._names_given = class_names is not None
        self._class_names = tuple(class_names) if class_names is not None else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those given, else the folders of `train`, `val` or `test`; empty where there are only images to predict."""
        if self._class_names is None:
            folders = [self.root / split for split in ("train", "val", "test")]
            labelled = next(filter(Path.is_dir, folders), None)
            if labelled is None and self.predict_root is None:
                raise UserError(f"no images in {self.root}: looked for {', '.join(map(str, folders))}")
            self._class_names = () if labelled is None else find_classes(labelled)
        return self._class_names

    @property
    def has_test(self) -> bool:
        """Whether there is a folder `test`."""
        return (self.root / "test").is_dir()

    def index_name(self, split: str, index: int) -> str:
        """Return the image's path."""
        return str(self._files[split][0][int(index)])

    def setup(self, stage: str = "fit") -> None:
        """Find the files that the stage needs, and take what was not asked for from the model."""
        self.settle()
        if stage == "fit":
            self._find_train_and_val()
        elif stage == "validate" and "val" not in self._files:
            self._find_train_and_val() if self.val_fraction else self._find("val")
        elif stage == "test" and "test" not in self._files:
            self._find("test")
        elif stage == "predict" and "predict" not in self._files:
            self._files["predict"] = (find_images(self.predict_folder()), None)
        common = self.image_size, self.in_chans, self.interpolation
        for split, (files, labels) in self._files.items():
            view = EvalView(*common, self.crop_pct, self.decoder)
            if split == "train":
                view = TrainView(*common, self.augmentation, self.mean, self.std, self.decoder)
            self.datasets[split] = FileDataset(files, labels, view, self.on_error == "skip")

    def _find_train_and_val(self) -> None:
        if {"train", "val"} <= self._files.keys():
            return
        has_val = (self.root / "val").is_dir()
        if self.val_fraction and has_val:
            raise UserError(f"val_fraction is set, but there is a folder {self.root / 'val'}: drop one of them")
        self._find("train")
        if has_val:
            self._find("val")
            return
        if not self.val_fraction:
            raise UserError(f"no folder {self.root / 'val'}: add it, or set val_fraction to hold out a part of train")
        files, labels = self._files["train"]
        size = round(self.val_fraction * len(files))
        parts = stratified_split(labels, size, "val_fraction")
        for split, part in zip(("train", "val"), parts, strict=True):
            self._files[split] = (files.subset(part), labels[part])

    def _find(self, split: str) -> None:
        """Find the images of `root/<split>/<class>/*`."""
        folder = self.root / split
        if not folder.is_dir():
            raise UserError(f"no folder {folder}{_contents(self.root)}: it has a folder of images for each class")
        found = find_classes(folder)
        if not found:
            raise UserError(f"no class folders in {folder}: it has a folder of images for each class")
        for name in found:
            if name not in self.class_names:
                hint = did_you_mean(name, self.class_names)
                known = "class_names" if self._names_given else self.root / "train"
                raise UserError(f"{folder / name} is a class that {known} lacks{hint}")
        files = find_images(folder)
        classes = files.first_directory()
        if empty := sorted(set(found) - set(classes)):
            raise UserError(f"no images below {folder / empty[0]} (looked for {', '.join(EXTENSIONS)})")
        if (without := [name for name in self.class_names if name not in found]) and self._processes()[1] == 0:
            more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
            print(f"{folder} has no images of {', '.join(without[:_NAMED])}{more}", file=sys.stderr)
        number = {name: label for label, name in enumerate(self.class_names)}
        labels = np.array([number.get(name, -1) for name in classes])  # -1: beside the folders of the classes
        labelled = np.flatnonzero(labels >= 0)
        self._files[split] = (files.subset(labelled), labels[labelled])

    def predict_folder(self) -> Path:
        """Return the folder below which all images are to be predicted.

        Raises:
            UserError: There is none.
        """
        splits = {split: self.root / split for split in ("train", "val", "test")}
        folders = [self.predict_root] if self.predict_root else [splits["test"], splits["val"]]
        if not self.predict_root and self._names_given and not any(map(self._has_classes, splits.values())):
            folders = [self.root]
        folder = next(filter(Path.is_dir, folders), None)
        if folder is None and not (given := self.predict_root or self.root).is_dir():
            what = "is a file: give its folder" if given.is_file() else "is not a folder"
            raise UserError(f"nothing to predict: {given} {what}")
        if folder is None:
            looked_for = " or ".join(map(str, folders))
            raise UserError(f"nothing to predict: no folder {looked_for}; set predict_root")
        return folder

    def _has_classes(self, folder: Path) -> bool:
        return folder.is_dir() and not set(find_classes(folder)).isdisjoint(self.class_names)


def _contents(root: Path) -> str:
    """Return what a message says of a root that lacks a folder."""
    if not root.is_dir():
        return f" ({root} is not a folder)"
    names = sorted(path.name for path in root.iterdir())
    return f" ({root} has {', '.join(names[:_NAMED]) or 'nothing'}{', ...' if len(names) > _NAMED else ''})"
