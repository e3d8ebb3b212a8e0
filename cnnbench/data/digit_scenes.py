"""Scenes of handwritten digits as data: what the data modules for detection and for segmentation share."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from cnnbench.data import checks
from cnnbench.data.base import Batch, ImageDataModule
from cnnbench.data.digits import DigitsDataModule
from cnnbench.data.draws import sample_keys
from cnnbench.data.pixels import channel_statistics
from cnnbench.data.samplers import index_and_key
from cnnbench.data.scenes import Scene, SceneGenerator

_HELD_OUT_SEEDS = {"val": -1, "test": -2}  # never a run's: runs of all seeds share one test set, and train on others
_MEAN = (0.530, 0.521, 0.514)  # of training scenes
_STD = (0.346, 0.338, 0.310)


class SceneDataset(Dataset):
    """Scenes, made when asked for: subclasses say what a sample is, and how samples become a batch.

    Args:
        scenes: Makes them.
        length: How many there are.
        in_chans: 3 for RGB, 1 for grey.
        seed: Of scenes that are always the same; None: their keys come from the sampler.
        augmenter: How they vary; None: not at all.
    """

    def __init__(
        self, scenes: SceneGenerator, length: int, in_chans: int, seed: int | None, augmenter: Any | None
    ) -> None:
        self.scenes = scenes
        self.length = length
        self.in_chans = in_chans
        self.seed = seed
        self.augmenter = augmenter

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int | tuple[int, int]) -> Any:
        """Return one sample, by its index or, in training, (index, key)."""
        return self._samples([item])[0]

    def __getitems__(self, items: list[int] | list[tuple[int, int]]) -> Batch:
        """Return the finished batch of these indices or, in training, (index, key) pairs."""
        return self.batch_of(self._samples(items))

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """Return the batch, which `__getitems__` has finished."""
        return batch

    @abstractmethod
    def sample(self, scene: Scene, index: int, key: int | None) -> Any:
        """Return a scene as a sample, varied where it has a key."""

    @staticmethod
    @abstractmethod
    def batch_of(samples: Sequence[Any]) -> Batch:
        """Return samples as a batch."""

    def _samples(self, items: list[int] | list[tuple[int, int]]) -> list[Any]:
        index, key = index_and_key(items)
        keys = [None] * len(items) if key is None else key.tolist()
        scenes = self.scenes(sample_keys(self.seed, 0, index) if key is None else key)
        return [self.sample(*one) for one in zip(scenes, index.tolist(), keys, strict=True)]


class DigitScenes(ImageDataModule):
    """A data module of scenes: subclasses say in `dataset` what is made of them, and in `augmenter` how they vary.

    The digits are those of `DigitsDataModule`, split as there: no digit of a training scene is in a validation or a
    test scene. Scenes are made when they are asked for: in training a new one for each (seed, epoch, index); those of
    validation and test are always the same.

    Args:
        batch_size: Scenes a process and step.
        image_size: Height and width of a scene.
        num_workers: Processes that make scenes.
        in_chans: 3 for RGB, 1 for grey.
        objects: Fewest and most digits of a scene.
        object_size: Smallest and largest height of a digit's image, in pixels.
        max_overlap: Largest part of a digit's box that another's may cover.
        train_scenes: Scenes of an epoch.
        val_scenes: Scenes of the validation set.
        test_scenes: Scenes of the test set.
        mean: Overrides the mean of the scenes.
        std: Overrides their standard deviation.
    """

    def __init__(
        self,
        batch_size: int,
        image_size: int,
        num_workers: int,
        in_chans: int,
        objects: tuple[int, int],
        object_size: tuple[int, int],
        max_overlap: float,
        train_scenes: int,
        val_scenes: int,
        test_scenes: int,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
    ) -> None:
        super().__init__(batch_size, image_size, num_workers, in_chans)
        checks.per_channel("mean", mean, in_chans)
        checks.per_channel("std", std, in_chans, positive=True)
        self.mean = tuple(mean or channel_statistics(_MEAN, in_chans))
        self.std = tuple(std or channel_statistics(_STD, in_chans))
        self.lengths = {"train": train_scenes, "val": val_scenes, "test": test_scenes}
        for split, length in self.lengths.items():
            checks.at_least(f"{split}_scenes", length, 1)
        self._settings = {"objects": objects, "object_size": object_size, "max_overlap": max_overlap}
        SceneGenerator(torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(1), image_size, **self._settings)

    @abstractmethod
    def dataset(self, *scenes: Any) -> SceneDataset:
        """Return a split; the arguments are those of `SceneDataset`."""

    @abstractmethod
    def augmenter(self) -> Any | None:
        """Return what varies training scenes, or None."""

    def setup(self, stage: str = "fit") -> None:
        """Take the digits of each split; predictions are made for the test scenes."""
        if self.datasets:
            return
        digits = DigitsDataModule(image_size=8)
        digits.setup(stage)
        for split, length in self.lengths.items():
            own = digits.datasets[split]
            scenes = SceneGenerator(own.images[:, 0], own.labels, self.image_size, **self._settings)
            augmenter = self.augmenter() if split == "train" else None
            self.datasets[split] = self.dataset(scenes, length, self.in_chans, _HELD_OUT_SEEDS.get(split), augmenter)
        self.datasets["predict"] = self.datasets["test"]
