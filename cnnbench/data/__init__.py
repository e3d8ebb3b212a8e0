"""Lightning data modules: bundled digits, MNIST, CIFAR, and folders of images."""

from cnnbench.data.augment import BatchAugmentation
from cnnbench.data.base import ImageDataModule
from cnnbench.data.cifar import CIFAR10DataModule, CIFAR100DataModule
from cnnbench.data.digits import DigitsDataModule
from cnnbench.data.mnist import MNISTDataModule

__all__ = [
    "BatchAugmentation",
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "DigitsDataModule",
    "ImageDataModule",
    "MNISTDataModule",
]
