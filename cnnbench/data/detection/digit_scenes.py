"""Scenes of real handwritten digits: a detection set that needs no download, and in training never ends."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cnnbench.data import checks
from cnnbench.data.base import Batch
from cnnbench.data.detection.base import DetectionDataModule
from cnnbench.data.detection.samples import Sample, collate
from cnnbench.data.digits import DigitsDataModule
from cnnbench.data.draws import sample_keys
from cnnbench.data.pixels import channel_statistics, with_channels
from cnnbench.data.samplers import index_and_key
from cnnbench.data.scenes import Scene, SceneGenerator

_HELD_OUT_SEEDS = {"val": 1, "test": 2}  # never the run's: runs of several seeds share one test set
_MEAN = (0.530, 0.521, 0.514)  # of training scenes
_STD = (0.346, 0.338, 0.310)


class DigitScenesDataModule(DetectionDataModule):
    """Digits of several sizes and colours on textured canvases, some covering a part of others, and empty canvases.

    The digits are those of `DigitsDataModule`, split as there: no digit of a training scene is in a validation or a
    test scene. Scenes are made when they are asked for: in training a new one for each (seed, epoch, index); those of
    validation and test are always the same.

    Args:
        batch_size: Scenes a process and step.
        image_size: Height and width of a scene; its digits are 16 to 48 pixels high whatever it is.
        num_workers: Processes that make scenes; a scene takes about half a millisecond.
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

    def setup(self, stage: str = "fit") -> None:
        """Take the digits of each split; predictions are made for the test scenes."""
        if self.datasets:
            return
        digits = DigitsDataModule(image_size=8)
        digits.setup(stage)
        for split, length in self.lengths.items():
            own = digits.datasets[split]
            scenes = SceneGenerator(own.images[:, 0], own.labels, self.image_size, **self._settings)
            self.datasets[split] = _Scenes(scenes, length, self.in_chans, _HELD_OUT_SEEDS.get(split))
        self.datasets["predict"] = self.datasets["test"]


class _Scenes(Dataset):
    """Scenes, made when asked for.

    Args:
        scenes: Makes them.
        length: How many there are.
        in_chans: 3 for RGB, 1 for grey.
        seed: Of scenes that are always the same; None: their keys come from the sampler.
    """

    def __init__(self, scenes: SceneGenerator, length: int, in_chans: int, seed: int | None) -> None:
        self.scenes = scenes
        self.length = length
        self.in_chans = in_chans
        self.seed = seed

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
        scenes = self.scenes(sample_keys(self.seed, 0, index) if key is None else key)
        keys = [None] * len(items) if key is None else key.tolist()
        return [self._sample(*of_one) for of_one in zip(scenes, index.tolist(), keys, strict=True)]

    def _sample(self, scene: Scene, index: int, key: int | None) -> Sample:
        image: Tensor = with_channels(scene.image[None], self.in_chans)[0]
        sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
        crowd = torch.zeros(len(sides), dtype=torch.bool)
        size = (self.scenes.size, self.scenes.size)
        return Sample(image, scene.boxes, scene.labels, crowd, sides.prod(1), size, index, key)
