"""Scenes of real handwritten digits: a detection set that needs no download, and in training never ends."""

from typing import Any

import torch
from torch import Tensor

from cnnbench.data.detection.augment import Augmenter, DetectionAugmentation
from cnnbench.data.detection.base import DetectionDataModule
from cnnbench.data.detection.fit import Fit
from cnnbench.data.detection.items import Item, item_of, sample_of, size_of
from cnnbench.data.detection.samples import Sample, collate
from cnnbench.data.digit_scenes import DigitScenes, SceneDataset
from cnnbench.data.draws import sample_keys
from cnnbench.data.pixels import with_channels
from cnnbench.data.scenes import Scene

_NOT_VARIED = DetectionAugmentation(hflip=0.0)  # a digit in the mirror is none
_MEASURED = 500  # scenes that sizes of boxes are taken from


class DigitScenesDataModule(DigitScenes, DetectionDataModule):
    """Digits of several sizes and colours on textured canvases, some covering a part of others, and empty canvases.

    The digits are those of `DigitsDataModule`, split as there: no digit of a training scene is in a validation or a
    test scene. Scenes are made when they are asked for: in training a new one for each (seed, epoch, index); those of
    validation and test are always the same.

    Args:
        batch_size: Scenes a process and step.
        image_size: Height and width of a scene; `object_size` does not follow it.
        num_workers: Processes that make scenes; a scene takes about half a millisecond.
        in_chans: 3 for RGB, 1 for grey.
        objects: Fewest and most digits of a scene.
        object_size: Smallest and largest height of a digit's image, in pixels.
        max_overlap: Largest part of a digit's box that another's may cover.
        augmentation: How training scenes vary beyond being new; by default not at all.
        masks: Give instance masks, too: what is visible of each digit.
        train_scenes: Scenes of an epoch.
        val_scenes: Scenes of the validation set.
        test_scenes: Scenes of the test set.
        mean: Overrides the mean of the scenes.
        std: Overrides their standard deviation.
    """

    class_names = tuple("0123456789")

    def __init__(
        self,
        batch_size: int = 32,
        image_size: int = 96,
        num_workers: int = 0,
        in_chans: int = 3,
        objects: tuple[int, int] = (0, 6),
        object_size: tuple[int, int] = (16, 48),
        max_overlap: float = 0.3,
        augmentation: DetectionAugmentation = _NOT_VARIED,
        masks: bool = False,
        train_scenes: int = 2000,
        val_scenes: int = 300,
        test_scenes: int = 500,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(
            *(batch_size, image_size, num_workers, in_chans, objects, object_size, max_overlap),
            *(train_scenes, val_scenes, test_scenes, mean, std),
        )
        self.augmentation = augmentation
        self.masks = masks

    @property
    def category_ids(self) -> list[int]:
        """The digits themselves."""
        return list(range(10))

    def image_ids(self, split: str) -> list[int]:
        """Return the scenes' places, counted from 0."""
        return list(range(len(self.datasets[split])))

    def box_sizes(self) -> Tensor:
        """Return width and height of the digits of some training scenes: float32 (N, 2)."""
        scenes = self.datasets["train"].scenes(sample_keys(0, 0, torch.arange(_MEASURED)))
        boxes = torch.cat([scene.boxes for scene in scenes])
        return boxes[:, 2:] - boxes[:, :2]

    def dataset(self, *scenes: Any) -> SceneDataset:
        """Return scenes with boxes."""
        return _Scenes(*scenes, masks=self.masks)

    def augmenter(self) -> Augmenter | None:
        """Return what varies training scenes, or None."""
        if self.augmentation.changes_nothing:
            return None
        return Augmenter(self.augmentation, Fit(self.image_size, self.image_size), self.mean)


class _Scenes(SceneDataset):
    """Scenes with boxes; with `masks` each object has one."""

    batch_of = staticmethod(collate)

    def __init__(self, *scenes: Any, masks: bool) -> None:
        super().__init__(*scenes)
        self.masks = masks

    def sample(self, scene: Scene, index: int, key: int | None) -> Sample:
        """Return a scene with its boxes."""
        item = self._item(scene)
        if self.augmenter is not None:
            item = self.augmenter(item, self._drawn, key)
        return sample_of(item, None, size_of(item), index, key)

    def _item(self, scene: Scene) -> Item:
        image = with_channels(scene.image[None], self.in_chans)[0]
        return item_of(image, scene.boxes, scene.labels, masks=scene.masks if self.masks else None)

    def _drawn(self) -> Item:
        key = torch.randint(2**63 - 1, (1,))
        return self._item(self.scenes(key)[0])
