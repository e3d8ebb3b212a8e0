"""Scenes of real handwritten digits with masks: a segmentation set that needs no download, and never ends."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cnnbench.data import checks
from cnnbench.data.base import Batch
from cnnbench.data.detection.digit_scenes import HELD_OUT_SEEDS, MEAN, STD
from cnnbench.data.digits import DigitsDataModule
from cnnbench.data.draws import sample_keys
from cnnbench.data.pixels import channel_statistics, with_channels
from cnnbench.data.samplers import index_and_key
from cnnbench.data.scenes import Scene, SceneGenerator
from cnnbench.data.segmentation.augment import Augmenter, SegmentationAugmentation
from cnnbench.data.segmentation.base import SegmentationDataModule
from cnnbench.data.segmentation.samples import Sample, collate, item_of, parts_of

_NOT_VARIED = SegmentationAugmentation(hflip=0.0)  # a digit in the mirror is none


class DigitScenesSegmentationDataModule(SegmentationDataModule):
    """The scenes of `DigitScenesDataModule`, with the class of each pixel: background, or a digit.

    With `instances`, batches have two tensors more: `instances` uint8 (B, H, W), 0 where there is no digit, n where the
    n-th is seen, counted from 1; and `label` int64 (B, M), the class of each of them, -1 where there is none.

    Args:
        batch_size: Scenes a process and step.
        image_size: Height and width of a scene; `object_size` does not follow it.
        num_workers: Processes that make scenes; a scene takes about half a millisecond.
        in_chans: 3 for RGB, 1 for grey.
        objects: Fewest and most digits of a scene.
        object_size: Smallest and largest height of a digit's image, in pixels.
        max_overlap: Largest part of a digit's box that another's may cover.
        instances: Whether digits of one class are told apart, too.
        augmentation: How training scenes vary beyond being new; by default not at all.
        train_scenes: Scenes of an epoch.
        val_scenes: Scenes of the validation set.
        test_scenes: Scenes of the test set.
        mean: Overrides the mean of the scenes.
        std: Overrides their standard deviation.
    """

    class_names = ("background", *"0123456789")

    def __init__(
        self,
        batch_size: int = 32,
        image_size: int = 96,
        num_workers: int = 0,
        in_chans: int = 3,
        objects: tuple[int, int] = (0, 6),
        object_size: tuple[int, int] = (16, 48),
        max_overlap: float = 0.3,
        instances: bool = False,
        augmentation: SegmentationAugmentation = _NOT_VARIED,
        train_scenes: int = 2000,
        val_scenes: int = 300,
        test_scenes: int = 500,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(batch_size, image_size, num_workers, in_chans)
        checks.per_channel("mean", mean, in_chans)
        checks.per_channel("std", std, in_chans, positive=True)
        self.mean = tuple(mean or channel_statistics(MEAN, in_chans))
        self.std = tuple(std or channel_statistics(STD, in_chans))
        self.instances = instances
        self.augmentation = augmentation
        self.lengths = {"train": train_scenes, "val": val_scenes, "test": test_scenes}
        for split, length in self.lengths.items():
            checks.at_least(f"{split}_scenes", length, 1)
        self._settings = {"objects": objects, "object_size": object_size, "max_overlap": max_overlap}
        SceneGenerator(torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(1), image_size, **self._settings)

    def setup(self, stage: str = "fit") -> None:
        """Take the digits of each split; predictions are made for the test scenes."""
        if self.datasets:
            return
        digits = DigitsDataModule(image_size=8)
        digits.setup(stage)
        varied = not self.augmentation.changes_nothing
        augmenter = Augmenter(self.augmentation, self.image_size, self.mean) if varied else None
        for split, length in self.lengths.items():
            own = digits.datasets[split]
            scenes = SceneGenerator(own.images[:, 0], own.labels, self.image_size, **self._settings)
            settings = (self.in_chans, self.instances, HELD_OUT_SEEDS.get(split))
            self.datasets[split] = _Scenes(scenes, length, *settings, augmenter if split == "train" else None)
        self.datasets["predict"] = self.datasets["test"]


class _Scenes(Dataset):
    """Scenes, made when asked for.

    Args:
        scenes: Makes them.
        length: How many there are.
        in_chans: 3 for RGB, 1 for grey.
        instances: Whether samples tell them.
        seed: Of scenes that are always the same; None: their keys come from the sampler.
        augmenter: How they vary; None: not at all.
    """

    def __init__(
        self,
        scenes: SceneGenerator,
        length: int,
        in_chans: int,
        instances: bool,
        seed: int | None,
        augmenter: Augmenter | None,
    ) -> None:
        self.scenes = scenes
        self.length = length
        self.in_chans = in_chans
        self.instances = instances
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
        keys = [None] * len(items) if key is None else key.tolist()
        scenes = self.scenes(sample_keys(self.seed, 0, index) if key is None else key)
        return [self._sample(*one) for one in zip(scenes, index.tolist(), keys, strict=True)]

    def _sample(self, scene: Scene, index: int, key: int | None) -> Sample:
        image = with_channels(scene.image[None], self.in_chans)[0]
        item = item_of(image, semantic_mask(scene), scene.instances)
        if self.augmenter is not None:
            item = self.augmenter(item, key)
        image, (mask, instances) = parts_of(item)
        others = {"instances": (instances, 0), "label": (scene.labels, -1)} if self.instances else {}
        return Sample(image, mask, index, key, others)


def semantic_mask(scene: Scene) -> Tensor:
    """Return the class of each pixel of a scene, uint8 (H, W): 0 where there is no digit, else the digit + 1."""
    classes = torch.cat((torch.zeros(1, dtype=torch.uint8), (scene.labels + 1).to(torch.uint8)))
    return classes[scene.instances.long()]
