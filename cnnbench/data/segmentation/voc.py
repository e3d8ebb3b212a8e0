"""PASCAL VOC's segmentation set, and other sets in its format."""

import os
from pathlib import Path

from torchvision.datasets import VOCSegmentation

from cnnbench.data import checks
from cnnbench.data.segmentation.augment import SegmentationAugmentation
from cnnbench.data.segmentation.files import VARIED, MaskFilesDataModule, Pairs
from cnnbench.data.voc_sets import CLASSES, download_sets, the_set


class VOCSegmentationDataModule(MaskFilesDataModule):
    """`root/VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation}` and the same of other years.

    From M. Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010,
    http://host.robots.ox.ac.uk/pascal/VOC: 20 classes and the background; the objects' outlines do not count.

    Args:
        root: Folder of the data.
        download: Whether torchvision downloads the sets that are not there, and verifies their checksums.
        train_sets: Year and name of each set of the training images.
        val_sets: The same of validation.
        test_sets: The same of the test; of 2007 there is one, `2007_test`.
        class_names: Names of the classes, in the order of the ids in the masks; by default VOC's.
        predict_root: Images to predict, any below this folder; None: those of the test set, else of validation.
        batch_size: Images a process and step.
        image_size: Height and width of the part of a training image that is taken.
        resize: Pixels that the shorter side is brought to before all else, in evaluation too; None: as it is.
        num_workers: Processes that decode images; None: one a processor core, at most 8.
        in_chans: 3 for RGB images, 1 for grey.
        augmentation: How training images vary; by default a flip, and half to twice the size.
        mean: Of pixels in 0..1; None: the model's, else ImageNet's.
        std: The same.
        decoder: `auto` is the fastest that is installed, of simplejpeg, torchvision and pil.
        on_error: What to do with a file that is not a whole image: `raise`, or `skip` it; what was skipped is counted
            and listed at the end.
    """

    def __init__(
        self,
        root: str = "data/voc",
        download: bool = False,
        train_sets: tuple[str, ...] = ("2012_train",),
        val_sets: tuple[str, ...] = ("2012_val",),
        test_sets: tuple[str, ...] = (),
        class_names: tuple[str, ...] = ("background", *CLASSES),
        predict_root: str | None = None,
        batch_size: int = 8,
        image_size: int = 512,
        resize: int | None = None,
        num_workers: int | None = None,
        in_chans: int = 3,
        augmentation: SegmentationAugmentation = VARIED,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        decoder: str = "auto",
        on_error: str = "raise",
    ) -> None:
        super().__init__(
            *(root, predict_root, batch_size, image_size, resize, num_workers, in_chans, augmentation, mean, std),
            *(decoder, on_error),
        )
        checks.distinct("class_names", class_names)
        self.download = download
        self.sets = {"train": tuple(train_sets), "val": tuple(val_sets), "test": tuple(test_sets)}
        self.class_names = tuple(class_names)

    @property
    def has_test(self) -> bool:
        """Whether there are test sets."""
        return bool(self.sets["test"])

    def prepare_data(self) -> None:
        """Download what is not there, if that is asked for."""
        if self.download:
            download_sets(VOCSegmentation, self.root, [name for names in self.sets.values() for name in names])

    def read(self, split: str) -> Pairs:
        """Read the lists of the split's sets."""
        sets = [the_set(VOCSegmentation, self.root, name) for name in self.sets[split]]
        images = [Path(path) for found in sets for path in found.images]
        folders = [path.parent for path in images]  # one a year
        common = Path(os.path.commonpath(folders)) if folders else self.root
        return Pairs(images, [Path(path) for found in sets for path in found.masks], common)
