"""What data modules of image files with mask files share: sizes, normalisation, decoding, and images to predict."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnbench.data import checks
from cnnbench.data.decoders import installed
from cnnbench.data.file_index import find_images
from cnnbench.data.folder import cores
from cnnbench.data.pixels import channel_statistics
from cnnbench.data.segmentation.augment import Augmenter, SegmentationAugmentation
from cnnbench.data.segmentation.base import IGNORED, SegmentationDataModule
from cnnbench.data.segmentation.mask_files import MaskFiles
from cnnbench.errors import UserError

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
VARIED = SegmentationAugmentation(scale=(0.5, 2.0))
"""A flip and a random size, as the benchmarks' baselines are trained."""


@dataclass(frozen=True)
class Pairs:
    """Files of a split.

    Attributes:
        images: Their paths.
        masks: Of each image; None: there are none.
    """

    images: Sequence[Path]
    masks: Sequence[Path] | None

    def subset(self, places: np.ndarray) -> "Pairs":
        """Return the pairs at these places, in this order."""
        return Pairs(*([paths[place] for place in places] for paths in (self.images, self.masks)))

    def held_out(self, fraction: float) -> tuple["Pairs", "Pairs"]:
        """Return the pairs to train on, and a part of them to validate on, always the same."""
        order = np.random.RandomState(0).permutation(len(self.images))
        count = max(1, round(fraction * len(order)))
        return self.subset(np.sort(order[count:])), self.subset(np.sort(order[:count]))


class MaskFilesDataModule(SegmentationDataModule):
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
    ) -> None:
        super().__init__(batch_size, image_size, cores() if num_workers is None else num_workers, in_chans)
        checks.per_channel("mean", mean, in_chans)
        checks.per_channel("std", std, in_chans, positive=True)
        if resize is not None:
            checks.at_least("resize", resize, 1)
        self.root = Path(root)
        self.predict_root = None if predict_root is None else Path(predict_root)
        self.resize = resize
        self.augmentation = augmentation
        self.decoder = installed(decoder)
        self._asked = {"mean": mean, "std": std}
        self._splits: dict[str, Pairs] = {}
        self._settle_normalisation()

    @abstractmethod
    def read(self, split: str) -> Pairs:
        """Find the images of a split, `train`, `val` or `test`, and their masks.

        Raises:
            UserError: Something is missing, or is not what it should be.
        """

    @property
    def class_of_id(self) -> Mapping[int, int]:
        """The class of each number in a mask file: the number itself, and 255 where pixels do not count."""
        return {id: id for id in (*range(self.num_classes), IGNORED)}

    def index_name(self, split: str, index: int) -> str:
        """Return the image's path."""
        return str(self._splits[split].images[int(index)])

    def setup(self, stage: str = "fit") -> None:
        """Find what the stage needs, and take the normalisation that was not asked for from the model."""
        self._settle_normalisation()
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, (stage,)):
            if split not in self._splits:
                self._splits[split] = self._images_to_predict() if split == "predict" else self._checked(split)
            own, augmenter = self._splits[split], None
            if split == "train":
                augmenter = Augmenter(self.augmentation, self.image_size, self.mean)
            masks = None if split == "predict" else own.masks
            settings = (self.class_of_id, self.in_chans, self.decoder, self.resize, augmenter)
            self.datasets[split] = MaskFiles(own.images, masks, *settings)

    def _checked(self, split: str) -> Pairs:
        found = self.read(split)
        if not len(found.images):
            raise UserError(f"{self.root}: no images in the {split} set")
        missing = [path for path in (*found.images, *found.masks) if not path.is_file()]
        if missing:
            raise UserError(f"{self.root}: {len(missing)} files of the {split} set are not there, such as {missing[0]}")
        return found

    def _images_to_predict(self) -> Pairs:
        if self.predict_root is None:
            return self.read("test" if self.has_test else "val")
        if not self.predict_root.is_dir():
            raise UserError(f"nothing to predict: {self.predict_root} is not a folder")
        return Pairs(find_images(self.predict_root), None)

    def _settle_normalisation(self) -> None:
        model = None if self.trainer is None else self.trainer.lightning_module
        config = getattr(model, "pretrained_cfg", None) or {}
        for name, fallback in (("mean", _MEAN), ("std", _STD)):
            own = config.get(name) if isinstance(config, dict) else getattr(config, name, None)
            values = next(value for value in (self._asked[name], own, fallback) if value is not None)
            setattr(self, name, channel_statistics(values, self.in_chans))
