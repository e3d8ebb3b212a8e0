"""What data modules of image files with mask files share: sizes, augmentation, and how masks are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnbench.data import checks
from cnnbench.data.file_index import find_images
from cnnbench.data.files import AnnotatedFilesDataModule
from cnnbench.data.segmentation.augment import Augmenter, SegmentationAugmentation
from cnnbench.data.segmentation.base import IGNORED, SegmentationDataModule
from cnnbench.data.segmentation.mask_files import MaskFiles
from cnnbench.errors import UserError

VARIED = SegmentationAugmentation(scale=(0.5, 2.0))
"""A flip and a random size, as the benchmarks' baselines are trained."""


@dataclass(frozen=True)
class Pairs:
    """Files of a split.

    Attributes:
        files: Paths of the images.
        masks: Of each image; None: there are none.
        folder: That the images lie below, however deep.
    """

    files: Sequence[Path]
    masks: Sequence[Path] | None
    folder: Path

    def subset(self, places: Sequence[int] | np.ndarray) -> "Pairs":
        """Return the pairs at these places, in this order."""
        files, masks = ([paths[place] for place in places] for paths in (self.files, self.masks))
        return Pairs(files, masks, self.folder)

    def held_out(self, fraction: float) -> tuple["Pairs", "Pairs"]:
        """Return the pairs to train on, and a part of them to validate on, always the same."""
        order = np.random.RandomState(0).permutation(len(self.files))
        count = max(1, round(fraction * len(order)))
        return self.subset(np.sort(order[count:])), self.subset(np.sort(order[:count]))


class MaskFilesDataModule(AnnotatedFilesDataModule, SegmentationDataModule):
    """Image files with mask files: subclasses say in `read` what their splits are.

    Args:
        root: Folder of the data.
        predict_root: Images to predict, any below this folder; None: those of the test set, else of validation.
        batch_size: Images a process and step.
        image_size: Height and width of the part of a training image that is taken.
        resize: Pixels that the shorter side is brought to before all else, in evaluation too; None: as it is.
        num_workers: Processes that decode images; None: one a processor core, at most 8.
        in_chans: 3 for RGB images, 1 for grey.
        augmentation: How training images vary.
        mean: Of pixels in 0..1; None: the model's, else ImageNet's.
        std: The same.
        decoder: `auto` is the fastest that is installed, of simplejpeg, torchvision and pil.
        on_error: What to do with a file that is not a whole image: `raise`, or `skip` it.
    """

    def __init__(
        self,
        root: str,
        predict_root: str | None,
        batch_size: int,
        image_size: int,
        resize: int | None,
        num_workers: int | None,
        in_chans: int,
        augmentation: SegmentationAugmentation,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        decoder: str,
        on_error: str,
    ) -> None:
        super().__init__(
            *(root, predict_root, batch_size, image_size, num_workers, in_chans, decoder, mean, std, on_error)
        )
        if resize is not None:
            checks.at_least("resize", resize, 1)
        self.resize = resize
        self.augmentation = augmentation

    @property
    def class_of_id(self) -> Mapping[int, int]:
        """The class of each number in a mask file: the number itself, and 255 where pixels do not count."""
        return {id: id for id in (*range(self.num_classes), IGNORED)}

    def without_annotations(self, folder: Path) -> Pairs:
        """Return all images below a folder, without masks."""
        return Pairs(find_images(folder), None, folder)

    def dataset(self, split: str, files: Pairs) -> MaskFiles:
        """Return a split as a dataset; images to predict need no masks."""
        augmenter = Augmenter(self.augmentation, self.image_size, self.mean) if split == "train" else None
        masks = None if split == "predict" else files.masks
        how = self.class_of_id, self.in_chans, self.decoder, self.resize, augmenter, self.on_error == "skip"
        return MaskFiles(files.files, masks, *how)

    def checked(self, split: str) -> Pairs:
        """Read a split, and refuse one that is empty, or whose files are not all there."""
        found = super().checked(split)
        missing = [path for path in (*found.files, *found.masks) if not path.is_file()]
        if missing:
            raise UserError(f"{len(missing)} files of the {split} set are not there, such as {missing[0]}")
        return found
