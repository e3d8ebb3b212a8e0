"""Lightning data modules: bundled digits and scenes of them, MNIST, CIFAR, COCO, VOC, Pets, and folders of images."""

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
from cnnbench.data.localization import DigitLocalizationDataModule, LocalizationDataModule
from cnnbench.data.mnist import MNISTDataModule
from cnnbench.data.segmentation.augment import SegmentationAugmentation
from cnnbench.data.segmentation.base import SegmentationDataModule
from cnnbench.data.segmentation.digit_scenes import DigitScenesSegmentationDataModule
from cnnbench.data.segmentation.mask_folder import MaskFolderDataModule
from cnnbench.data.segmentation.oxford_pets import OxfordPetsDataModule
from cnnbench.data.segmentation.voc import VOCSegmentationDataModule
from cnnbench.data.views import FolderAugmentation

__all__ = [
    "BatchAugmentation",
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "COCODataModule",
    "DetectionAugmentation",
    "DetectionDataModule",
    "DetectionFolderDataModule",
    "DigitLocalizationDataModule",
    "DigitScenesDataModule",
    "DigitScenesSegmentationDataModule",
    "DigitsDataModule",
    "FolderAugmentation",
    "ImageDataModule",
    "ImageFolderDataModule",
    "LocalizationDataModule",
    "MNISTDataModule",
    "MaskFolderDataModule",
    "OxfordPetsDataModule",
    "SegmentationAugmentation",
    "SegmentationDataModule",
    "VOCDataModule",
    "VOCSegmentationDataModule",
]
