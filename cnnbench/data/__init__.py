"""Lightning data modules: bundled digits and scenes of them, MNIST, CIFAR, and folders of images."""

from cnnbench.data.augment import BatchAugmentation
from cnnbench.data.base import ImageDataModule
from cnnbench.data.cifar import CIFAR10DataModule, CIFAR100DataModule
from cnnbench.data.detection.augment import DetectionAugmentation
from cnnbench.data.detection.base import DetectionDataModule
from cnnbench.data.detection.coco import COCODataModule
from cnnbench.data.detection.digit_scenes import DigitScenesDataModule
from cnnbench.data.detection.folder import DetectionFolderDataModule
from cnnbench.data.detection.voc import VOCDataModule
from cnnbench.data.digits import DigitsDataModule
from cnnbench.data.folder import ImageFolderDataModule
from cnnbench.data.mnist import MNISTDataModule
from cnnbench.data.views import FolderAugmentation

__all__ = [
    "BatchAugmentation",
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "COCODataModule",
    "DetectionAugmentation",
    "DetectionDataModule",
    "DetectionFolderDataModule",
    "DigitScenesDataModule",
    "DigitsDataModule",
    "FolderAugmentation",
    "ImageDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
    "VOCDataModule",
]
