"""Scenes of real handwritten digits with masks: a segmentation set that needs no download, and never ends."""

from typing import Any

import torch
from torch import Tensor

from cnnbench.data.digit_scenes import DigitScenes, SceneDataset
from cnnbench.data.pixels import with_channels
from cnnbench.data.scenes import Scene
from cnnbench.data.segmentation.augment import Augmenter, SegmentationAugmentation
from cnnbench.data.segmentation.base import IGNORED, SegmentationDataModule
from cnnbench.data.segmentation.samples import Sample, collate, item_of, parts_of

_NOT_VARIED = SegmentationAugmentation(hflip=0.0)  # a digit in the mirror is none


class DigitScenesSegmentationDataModule(DigitScenes, SegmentationDataModule):
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
        super().__init__(
            *(batch_size, image_size, num_workers, in_chans, objects, object_size, max_overlap),
            *(train_scenes, val_scenes, test_scenes, mean, std),
        )
        self.instances = instances
        self.augmentation = augmentation

    def dataset(self, *scenes: Any) -> SceneDataset:
        """Return scenes with masks."""
        return _Scenes(*scenes, instances=self.instances)

    def augmenter(self) -> Augmenter | None:
        """Return what varies training scenes, or None."""
        if self.augmentation.changes_nothing:
            return None
        return Augmenter(self.augmentation, self.image_size, self.mean)


class _Scenes(SceneDataset):
    """Scenes with masks.

    Args:
        scenes: The arguments of `SceneDataset`.
        instances: Whether samples tell them.
    """

    batch_of = staticmethod(collate)

    def __init__(self, *scenes: Any, instances: bool) -> None:
        super().__init__(*scenes)
        self.instances = instances

    def sample(self, scene: Scene, index: int, key: int | None) -> Sample:
        """Return a scene with its mask."""
        image = with_channels(scene.image[None], self.in_chans)[0]
        item = item_of(image, semantic_mask(scene), scene.instances)
        if self.augmenter is not None:
            item = self.augmenter(item, key)
        image, (mask, instances) = parts_of(item)
        instances = instances.where(mask != IGNORED, 0)  # beyond the scene
        others = {"instances": (instances, 0), "label": (scene.labels, -1)} if self.instances else {}
        return Sample(image, mask, index, key, others)


def semantic_mask(scene: Scene) -> Tensor:
    """Return the class of each pixel of a scene, uint8 (H, W): 0 where there is no digit, else the digit + 1."""
    classes = torch.cat((torch.zeros(1, dtype=torch.uint8), (scene.labels + 1).to(torch.uint8)))
    return classes[scene.instances.long()]
