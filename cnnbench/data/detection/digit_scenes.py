"""Scenes of real handwritten digits: a detection set that needs no download, and in training never ends."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cnnbench.data import checks
from cnnbench.data.base import Batch
from cnnbench.data.detection.augment import Augmenter, DetectionAugmentation
from cnnbench.data.detection.base import DetectionDataModule
from cnnbench.data.detection.fit import Fit
from cnnbench.data.detection.items import Item, item_of, sample_of, size_of
from cnnbench.data.detection.samples import Sample, collate
from cnnbench.data.digits import DigitsDataModule
from cnnbench.data.draws import sample_keys
from cnnbench.data.pixels import channel_statistics, with_channels
from cnnbench.data.samplers import index_and_key
from cnnbench.data.scenes import Scene, SceneGenerator

_HELD_OUT_SEEDS = {"val": -1, "test": -2}  # never a run's: runs of all seeds share one test set, and train on others
_NOT_VARIED = DetectionAugmentation(hflip=0.0)  # a digit in the mirror is none
_MEASURED = 500  # scenes that sizes of boxes are taken from
_MEAN = (0.530, 0.521, 0.514)  # of training scenes
_STD = (0.346, 0.338, 0.310)


class DigitScenesDataModule(DetectionDataModule):
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
        train_scenes: int = 2000,
        val_scenes: int = 300,
        test_scenes: int = 500,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(batch_size, image_size, num_workers, in_chans)
        checks.per_channel("mean", mean, in_chans)
        checks.per_channel("std", std, in_chans, positive=True)
        self.mean = tuple(mean or channel_statistics(_MEAN, in_chans))
        self.std = tuple(std or channel_statistics(_STD, in_chans))
        self.augmentation = augmentation
        self.lengths = {"train": train_scenes, "val": val_scenes, "test": test_scenes}
        for split, length in self.lengths.items():
            checks.at_least(f"{split}_scenes", length, 1)
        self._settings = {"objects": objects, "object_size": object_size, "max_overlap": max_overlap}
        SceneGenerator(torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(1), image_size, **self._settings)

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

    def setup(self, stage: str = "fit") -> None:
        """Take the digits of each split; predictions are made for the test scenes."""
        if self.datasets:
            return
        digits = DigitsDataModule(image_size=8)
        digits.setup(stage)
        for split, length in self.lengths.items():
            own = digits.datasets[split]
            scenes = SceneGenerator(own.images[:, 0], own.labels, self.image_size, **self._settings)
            augmenter = self._augmenter() if split == "train" else None
            self.datasets[split] = _Scenes(scenes, length, self.in_chans, _HELD_OUT_SEEDS.get(split), augmenter)
        self.datasets["predict"] = self.datasets["test"]

    def _augmenter(self) -> Augmenter | None:
        if self.augmentation.changes_nothing:
            return None
        return Augmenter(self.augmentation, Fit(self.image_size, self.image_size), self.mean)


class _Scenes(Dataset):
    """Scenes, made when asked for.

    Args:
        scenes: Makes them.
        length: How many there are.
        in_chans: 3 for RGB, 1 for grey.
        seed: Of scenes that are always the same; None: their keys come from the sampler.
        augmenter: How they vary; None: not at all.
    """

    def __init__(
        self, scenes: SceneGenerator, length: int, in_chans: int, seed: int | None, augmenter: Augmenter | None
    ) -> None:
        self.scenes = scenes
        self.length = length
        self.in_chans = in_chans
        self.seed = seed
        self.augmenter = augmenter

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int | tuple[int, int]) -> Sample:
        """Return one scene, by its index or, in training, (index, key)."""
        return self._samples([item])[0]

    def __getitems__(self, items: list[int] | list[tuple[int, int]]) -> Batch:
        """Return the finished batch of these indices or, in training, (index, key) pairs."""
        return collate(self._samples(items))

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """Return the batch, which `__getitems__` has finished."""
        return batch

    def _samples(self, items: list[int] | list[tuple[int, int]]) -> list[Sample]:
        index, key = index_and_key(items)
        scenes = map(self._item, self.scenes(sample_keys(self.seed, 0, index) if key is None else key))
        if key is None:
            return [self._sample(item, at) for item, at in zip(scenes, index.tolist(), strict=True)]
        trained = zip(scenes, index.tolist(), key.tolist(), strict=True)
        return [self._sample(self._varied(item, own_key), at, own_key) for item, at, own_key in trained]

    def _item(self, scene: Scene) -> Item:
        image = with_channels(scene.image[None], self.in_chans)[0]
        crowd = torch.zeros(len(scene.labels), dtype=torch.bool)
        return item_of(image, scene.boxes, scene.labels, crowd, scene.masks)

    def _varied(self, item: Item, key: int) -> Item:
        return item if self.augmenter is None else self.augmenter(item, self._drawn, key)

    def _drawn(self) -> Item:
        key = torch.randint(2**63 - 1, (1,))
        return self._item(self.scenes(key)[0])

    def _sample(self, item: Item, index: int, key: int | None = None) -> Sample:
        return sample_of(item, None, size_of(item), index, key)
