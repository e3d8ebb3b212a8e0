"""Public sets in memory that torchvision knows where to download: MNIST, CIFAR-10, CIFAR-100."""

import contextlib
import io
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from cnnbench.data import checks
from cnnbench.data.augment import BatchAugmentation
from cnnbench.data.memory import MemoryDataModule, MemoryDataset, stratified_split
from cnnbench.data.pixels import resized, with_channels
from cnnbench.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray]
"""Images uint8 (N, C, H, W) and labels (N,)."""


class DownloadedDataModule(MemoryDataModule):
    """A public set with an official test set, in memory.

    The validation images are a fixed, stratified part of the training set. Files that lie under `root` are
    read as they are, whoever wrote them. Where none lie, torchvision downloads them and verifies their
    checksums.

    Args:
        root: Folder of the data, searched and downloaded into.
        download: Whether to download what is not there.
        val_size: Training images held out for validation.
        batch_size: Images a process and step.
        image_size: Height and width that images are brought to, once, in memory.
        num_workers: Processes that load images.
        in_chans: 1 for grey images, 3 for RGB.
        augmentation: How training images vary.
        mean: Overrides the set's own.
        std: Overrides the set's own.
    """

    title: ClassVar[str]
    folders: ClassVar[tuple[str, ...]]  # under root, in the order of searching
    train_files: ClassVar[tuple[str, ...]]
    test_files: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        root: str,
        download: bool,
        val_size: int,
        batch_size: int,
        image_size: int,
        num_workers: int,
        in_chans: int,
        augmentation: BatchAugmentation,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
    ) -> None:
        super().__init__(batch_size, image_size, num_workers, in_chans, augmentation, mean, std)
        checks.at_least("val_size", val_size, 1)
        self.root = Path(root)
        self.download = download
        self.val_size = val_size

    @abstractmethod
    def fetch(self) -> None:
        """Download the files into `root`, verifying their checksums."""

    @abstractmethod
    def read(self, files: list[Path]) -> Arrays:
        """Read the files of the training or of the test set."""

    def prepare_data(self) -> None:
        """Download what is not there, and say so."""
        if not self.download or self._find(self.train_files + self.test_files):
            return
        print(f"downloading {self.title} to {self.root}", flush=True)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # torchvision reports each mirror that it tries
                self.fetch()
        except (OSError, RuntimeError) as error:
            raise self._missing(f"and the download failed: {' '.join(str(error).split())}") from error

    def setup(self, stage: str = "fit") -> None:
        """Read the files and split them; predictions are made for the test images."""
        if self.datasets:
            return
        images, labels = self._read(self.train_files)
        train, val = stratified_split(labels, self.val_size)
        self.datasets = {
            "train": self._dataset(images[train], labels[train]),
            "val": self._dataset(images[val], labels[val]),
            "test": self._dataset(*self._read(self.test_files)),
        }
        self.datasets["predict"] = self.datasets["test"]

    def fitted(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 images (N, C, H, W) at `image_size`."""
        return resized(images, self.image_size)

    def _dataset(self, images: np.ndarray, labels: np.ndarray) -> MemoryDataset:
        pixels = with_channels(self.fitted(torch.from_numpy(images)), self.in_chans)
        return MemoryDataset(pixels, torch.from_numpy(labels).long())

    def _read(self, names: tuple[str, ...]) -> Arrays:
        files = self._find(names)
        if not files:
            raise self._missing("set download to true, or root to the folder that has it")
        images, labels = self.read(files)
        if len(images) != len(labels):
            raise UserError(f"{files[0].parent} is damaged: {len(images)} images, {len(labels)} labels")
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise UserError(
                f"{files[0].parent} has the label {labels.max()}: {self.title} has {self.num_classes} classes"
            )
        return images, labels

    def _find(self, names: tuple[str, ...]) -> list[Path]:
        """Return the paths of these files, plain or gzipped, in the first folder that has them all."""
        for folder in self._searched():
            paths = [(folder / name, folder / f"{name}.gz") for name in names]
            files = [file for either in paths if (file := next(filter(Path.is_file, either), None))]
            if len(files) == len(names):
                return files
        return []

    def _searched(self) -> list[Path]:
        return [self.root / folder for folder in self.folders]

    def _missing(self, what_now: str) -> UserError:
        folders = ", ".join(str(folder) for folder in self._searched())
        names = ", ".join(self.train_files + self.test_files)
        return UserError(f"no {self.title} in {folders} (looked for {names}); {what_now}")
