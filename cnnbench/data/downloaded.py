"""Public sets in memory that torchvision knows where to download: MNIST, CIFAR-10, CIFAR-100."""

import contextlib
import io
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torchvision

from cnnbench.data import checks
from cnnbench.data.augment import BatchAugmentation
from cnnbench.data.formats import read_cifar_batch, read_idx
from cnnbench.data.memory import MemoryDataModule, MemoryDataset, stratified_split
from cnnbench.data.pixels import resized, with_channels
from cnnbench.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray]
"""Images uint8 (N, C, H, W) and labels (N,)."""


class DownloadedDataModule(MemoryDataModule):
    """A public set with an official test set; the validation images are a fixed, stratified part of the training set.

    Files that lie under `root` are read as they are, whoever wrote them. Where none lie, torchvision
    downloads them and verifies their checksums.

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
                f"{files[0].parent} has labels up to {labels.max()}: {self.title} has {self.num_classes} classes"
            )
        return images, labels

    def _find(self, names: tuple[str, ...]) -> list[Path]:
        """Return the paths of these files, plain or gzipped, in the first folder that has them all."""
        for folder in self._searched():
            files = [
                next(filter(Path.is_file, (folder / name, folder / f"{name}.gz")), None) for name in names
            ]
            if None not in files:
                return files
        return []

    def _searched(self) -> list[Path]:
        return [self.root / folder for folder in self.folders]

    def _missing(self, what_now: str) -> UserError:
        folders = ", ".join(str(folder) for folder in self._searched())
        names = ", ".join(self.train_files + self.test_files)
        return UserError(f"no {self.title} in {folders} (looked for {names}); {what_now}")


class MNISTDataModule(DownloadedDataModule):
    """60,000 + 10,000 handwritten digits of 28x28 grey pixels.

    From Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to Document
    Recognition", 1998.

    Args:
        root: Folder of the data: `MNIST/raw`, `raw` or the files themselves below it.
        download: Whether to download what is not there.
        val_size: Training images held out for validation.
        batch_size: Images a process and step.
        image_size: Height and width; 28 to 32 by a black border, others by bilinear resampling.
        num_workers: Processes that load images; more than 0 makes a set in memory slower.
        in_chans: 1 for grey images, 3 for RGB.
        augmentation: How training images vary; by default not at all.
        mean: Overrides the set's own.
        std: Overrides the set's own.
    """

    title = "MNIST"
    folders = ("MNIST/raw", "raw", "")
    train_files = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    test_files = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    class_names = tuple("0123456789")
    own_mean = (0.1307,)  # of the training images without a border
    own_std = (0.3081,)

    def __init__(
        self,
        root: str = "data",
        download: bool = True,
        val_size: int = 5000,
        batch_size: int = 64,
        image_size: int = 32,
        num_workers: int = 0,
        in_chans: int = 1,
        augmentation: BatchAugmentation = BatchAugmentation(),
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(
            root, download, val_size, batch_size, image_size, num_workers, in_chans, augmentation, mean, std
        )

    def fetch(self) -> None:
        """Download the four files."""
        torchvision.datasets.MNIST(self.root, download=True)

    def read(self, files: list[Path]) -> Arrays:
        """Read a file of images and one of labels."""
        images, labels = map(read_idx, files)
        if images.ndim != 3 or labels.ndim != 1:
            raise UserError(
                f"{files[0]} and {files[1].name} are not images and labels: {images.shape}, {labels.shape}"
            )
        return images[:, None].copy(), labels.astype(np.int64)

    def fitted(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images at `image_size`, with a black border where that is a little more than theirs."""
        border = self.image_size - images.shape[-1]
        if not 0 <= border <= 4:
            return super().fitted(images)
        before, after = border // 2, border - border // 2
        return torch.nn.functional.pad(images, (before, after, before, after))


class CIFAR10DataModule(DownloadedDataModule):
    """50,000 + 10,000 photographs of 32x32 RGB pixels in 10 classes.

    From A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Args:
        root: Folder of the data: `cifar-10-batches-py` or the batches themselves below it.
        download: Whether to download what is not there.
        val_size: Training images held out for validation.
        batch_size: Images a process and step.
        image_size: Height and width, by bilinear resampling, once: 224 takes 9 GB of memory.
        num_workers: Processes that load images; more than 0 makes a set in memory slower.
        in_chans: 3 for RGB images, 1 for grey.
        augmentation: How training images vary; by default a shift by up to 4 pixels and a horizontal flip.
        mean: Overrides the set's own.
        std: Overrides the set's own.
    """

    title = "CIFAR-10"
    folders = ("cifar-10-batches-py", "")
    train_files = tuple(f"data_batch_{n}" for n in range(1, 6))
    test_files = ("test_batch",)
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    own_mean = (0.4914, 0.4822, 0.4465)
    own_std = (0.2470, 0.2435, 0.2616)
    label_key: ClassVar[str] = "labels"
    source: ClassVar[type] = torchvision.datasets.CIFAR10

    def __init__(
        self,
        root: str = "data",
        download: bool = True,
        val_size: int = 5000,
        batch_size: int = 128,
        image_size: int = 32,
        num_workers: int = 0,
        in_chans: int = 3,
        augmentation: BatchAugmentation = BatchAugmentation(crop_padding=4, hflip=0.5),
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(
            root, download, val_size, batch_size, image_size, num_workers, in_chans, augmentation, mean, std
        )

    def fetch(self) -> None:
        """Download the archive and unpack it."""
        self.source(self.root, download=True)

    def read(self, files: list[Path]) -> Arrays:
        """Read the batches, one after the other."""
        images, labels = zip(*(read_cifar_batch(file, self.label_key) for file in files), strict=True)
        return np.concatenate(images), np.concatenate(labels)
