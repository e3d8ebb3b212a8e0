"""What data modules of image files share: where they are, who decodes them, and a normalisation that fits the model."""

import os
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import Dataset

from cnnbench.data import checks
from cnnbench.data.base import Batch, ImageDataModule
from cnnbench.data.decoders import installed
from cnnbench.data.image_files import ImageFileError
from cnnbench.data.pixels import channel_statistics
from cnnbench.errors import UserError

_IMAGENET = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bilinear",
    "crop_pct": 0.875,
}


class FilesDataModule(ImageDataModule):
    """Image files, decoded in worker processes, uint8 until they are on the device.

    Args:
        root: Folder of the data.
        predict_root: Images to predict, any below this folder; None: a subclass says.
        batch_size: Images a process and step.
        image_size: Pixels a side, of what a subclass says.
        num_workers: Processes that decode images; None: one a processor core, at most 8.
        in_chans: 3 for RGB images, 1 for grey.
        decoder: `auto` is the fastest that is installed, of simplejpeg, torchvision and pil.
        mean: Of pixels in 0..1; None: the model's, else ImageNet's.
        std: The same.
        on_error: What to do with a file that is not a whole image: `raise`, or `skip` it; what was skipped is counted
            and listed at the end.
        asked: What else may come from the model: `interpolation`, `crop_pct`.
    """

    def __init__(
        self,
        root: str,
        predict_root: str | None,
        batch_size: int,
        image_size: int,
        num_workers: int | None,
        in_chans: int,
        decoder: str,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        on_error: str = "raise",
        **asked: Any,
    ) -> None:
        super().__init__(batch_size, image_size, cores() if num_workers is None else num_workers, in_chans)
        checks.per_channel("mean", mean, in_chans)
        checks.per_channel("std", std, in_chans, positive=True)
        checks.one_of("on_error", on_error, ("raise", "skip"))
        self.root = Path(root)
        self.predict_root = None if predict_root is None else Path(predict_root)
        self.decoder = installed(decoder)
        self.on_error = on_error
        self._skipped: dict[Path, str] = {}  # and why
        self._asked = {"mean": mean, "std": std, **asked}
        self.settle()

    def settle(self) -> None:
        """Set mean, std and so on: as asked for, else as the model was published with, else ImageNet's."""
        model = None if self.trainer is None else self.trainer.lightning_module
        config = getattr(model, "pretrained_cfg", None) or {}
        for name, asked in self._asked.items():
            from_model = config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
            choices = (asked, from_model, _IMAGENET[name])
            setattr(self, name, next(value for value in choices if value is not None))
        self.mean = channel_statistics(self.mean, self.in_chans)
        self.std = channel_statistics(self.std, self.in_chans)

    @abstractmethod
    def predict_folder(self) -> Path:
        """Return the folder below which all images are predicted, or a part that is held out."""

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch, and note what was left out of it."""
        if "skipped" in batch:
            if not self._is_repeated(batch):
                self._note_skipped(batch["skipped"].tolist())
            batch = {name: value for name, value in batch.items() if name != "skipped"}
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def teardown(self, stage: str) -> None:
        """List what was skipped, and why."""
        self._list_skipped()

    def on_exception(self, exception: BaseException) -> None:
        """List it where the run is stopped, too: there is no teardown then."""
        self._list_skipped()

    def _note_skipped(self, indices: Sequence[int]) -> None:
        dataset = self.datasets[self._running_split()]
        for index in indices:
            if dataset.files[index] not in self._skipped:
                self._skipped[dataset.files[index]] = _damage(dataset, index)

    def _list_skipped(self) -> None:
        if self._skipped:
            print(f"skipped ({len(self._skipped)}):", file=sys.stderr)
        for path in sorted(self._skipped):
            print(f"  {self._skipped[path]}", file=sys.stderr)
        self._skipped.clear()

    def _running_split(self) -> str:
        running = {"train": self.trainer.training, "test": self.trainer.testing, "predict": self.trainer.predicting}
        return next((split for split, is_running in running.items() if is_running), "val")


def _damage(dataset: Dataset, index: int) -> str:
    """Return why a file of a dataset could not be read."""
    try:
        dataset[index]
    except ImageFileError as error:
        return str(error)
    return f"{dataset.files[index]} could not be read, and now can"


class Files(Protocol):
    """A split: image files, and what is known of each.

    Attributes:
        files: Their paths.
        folder: That they are named below.
    """

    files: Sequence[Path]
    folder: Path


class AnnotatedFilesDataModule(FilesDataModule):
    """Image files of which more is known than a class: a subclass reads splits, and makes datasets of them.

    The arguments are those of `FilesDataModule`.
    """

    def __init__(self, *files: Any) -> None:
        super().__init__(*files)
        self._splits: dict[str, Files] = {}

    @abstractmethod
    def read(self, split: str) -> Files:
        """Find the images of a split, `train`, `val` or `test`, and what is known of them.

        Raises:
            UserError: Something is missing, or is not what it should be.
        """

    @abstractmethod
    def without_annotations(self, folder: Path) -> Files:
        """Return all images below a folder, of which nothing is known."""

    @abstractmethod
    def dataset(self, split: str, files: Files) -> Dataset:
        """Return a split as a dataset; that of `train` varies."""

    def checked(self, split: str) -> Files:
        """Read a split to train or evaluate on, and refuse an empty one."""
        if split == "test" and not self.has_test:
            raise UserError(f"{self.root} has no test set; validate evaluates on the one of validation")
        return self._not_empty(split)

    def images_to_predict(self) -> Files:
        """Return the images below `predict_root`, else those of the test set, else of validation."""
        if self.predict_root is None:
            return self._not_empty("test" if self.has_test else "val")
        if not self.predict_root.is_dir():
            raise UserError(f"nothing to predict: {self.predict_root} is not a folder")
        return self.without_annotations(self.predict_root)

    def index_name(self, split: str, index: int) -> str:
        """Return the image's path."""
        return str(self._splits[split].files[int(index)])

    def file_name(self, split: str, index: int) -> str:
        """Return an image's path in the folder of its split."""
        own = self._splits[split]
        return Path(os.path.relpath(own.files[int(index)], own.folder)).as_posix()

    def predict_folder(self) -> Path:
        """Return the folder of the images to predict, once they are known."""
        return self._splits["predict"].folder

    def setup(self, stage: str = "fit") -> None:
        """Read what the stage needs, and take the normalisation that was not asked for from the model."""
        self.settle()
        stage = getattr(stage, "value", stage)  # Lightning's is an enumeration
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, (stage,)):
            if split not in self._splits:
                self._splits[split] = self.images_to_predict() if split == "predict" else self.checked(split)
            self.datasets[split] = self.dataset(split, self._splits[split])

    def _not_empty(self, split: str) -> Files:
        found = self.read(split)
        if not len(found.files):
            raise UserError(f"{self.root}: no images in the {split} set")
        return found


def cores() -> int:
    """Return the number of processor cores that this process may use, at most 8."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 8)
