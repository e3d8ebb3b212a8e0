"""CIFAR-10 and CIFAR-100, read from their "python version"."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torchvision

from cnnbench.data.augment import BatchAugmentation
from cnnbench.data.downloaded import Arrays, DownloadedDataModule
from cnnbench.data.formats import read_cifar_batch

_SHIFT_AND_FLIP = BatchAugmentation(crop_padding=4, hflip=0.5)

_CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal
shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank
telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


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
        augmentation: BatchAugmentation = _SHIFT_AND_FLIP,
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


class CIFAR100DataModule(CIFAR10DataModule):
    """50,000 + 10,000 photographs of 32x32 RGB pixels in 100 classes.

    From A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Arguments as in
    `CIFAR10DataModule`; the folder is `cifar-100-python`.
    """

    title = "CIFAR-100"
    folders = ("cifar-100-python", "")
    train_files = ("train",)
    test_files = ("test",)
    class_names = tuple(_CIFAR100_CLASSES.split())
    own_mean = (0.5071, 0.4865, 0.4409)
    own_std = (0.2673, 0.2564, 0.2762)
    label_key = "fine_labels"
    source = torchvision.datasets.CIFAR100
