"""MNIST, read from its idx files."""

import math
from pathlib import Path

import numpy as np
import torch.nn.functional as F
import torchvision
from torch import Tensor

from cnnbench.data.augment import NO_AUGMENTATION, BatchAugmentation
from cnnbench.data.downloaded import Arrays, DownloadedDataModule
from cnnbench.data.formats import read_idx
from cnnbench.errors import UserError

_SIDE = 28  # pixels


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
        augmentation: BatchAugmentation = NO_AUGMENTATION,
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
            raise UserError(f"{files[0]} and {files[1].name} are not images and labels: {images.shape}, {labels.shape}")
        return images[:, None].copy(), labels.astype(np.int64)

    @property
    def crop_pct(self) -> float:
        """More than 1 where the images have a black border."""
        # rounded down, so that image_size / crop_pct is not a little less than the images' side
        return 1.0 if self._border is None else math.floor(1e4 * self.image_size / _SIDE) / 1e4

    @property
    def _border(self) -> int | None:
        """How many black pixels images are wider by, or None where they are resampled."""
        border = self.image_size - _SIDE
        return border if 0 <= border <= 4 else None

    def fitted(self, images: Tensor) -> Tensor:
        """Return the images at `image_size`, with a black border where that is a little more than theirs."""
        if self._border is None:
            return super().fitted(images)
        before, after = self._border // 2, self._border - self._border // 2
        return F.pad(images, (before, after, before, after))
