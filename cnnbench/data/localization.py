"""Images that show one object each: its class and its box."""

from typing import Any

from torch.utils.data import default_collate

from cnnbench.data.base import ImageDataModule
from cnnbench.data.digit_scenes import DigitScenes, SceneDataset
from cnnbench.data.pixels import with_channels
from cnnbench.data.scenes import Scene


class LocalizationDataModule(ImageDataModule):
    """Images with one label and one box each.

    A batch is that of `ImageDataModule`, and `box` float32 (B, 4): x1, y1, x2, y2 as parts of the image's width and
    height.
    """


class DigitLocalizationDataModule(DigitScenes, LocalizationDataModule):
    """A digit of any size and colour somewhere on a textured canvas.

    The digits are those of `DigitsDataModule`, split as there: no digit of a training canvas is in a validation or a
    test canvas. Canvases are made when they are asked for: in training a new one for each (seed, epoch, index); those
    of validation and test are always the same.

    Args:
        batch_size: Canvases a process and step.
        image_size: Height and width of a canvas; `object_size` does not follow it.
        num_workers: Processes that make canvases; one takes about half a millisecond.
        in_chans: 3 for RGB, 1 for grey.
        object_size: Smallest and largest height of a digit's image, in pixels.
        train_scenes: Canvases of an epoch.
        val_scenes: Canvases of the validation set.
        test_scenes: Canvases of the test set.
        mean: Overrides the mean of the canvases.
        std: Overrides their standard deviation.
    """

    class_names = tuple("0123456789")

    def __init__(
        self,
        batch_size: int = 32,
        image_size: int = 64,
        num_workers: int = 0,
        in_chans: int = 3,
        object_size: tuple[int, int] = (16, 48),
        train_scenes: int = 2000,
        val_scenes: int = 300,
        test_scenes: int = 500,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(
            *(batch_size, image_size, num_workers, in_chans, (1, 1), object_size, 0.0),
            *(train_scenes, val_scenes, test_scenes, mean, std),
        )

    def dataset(self, *scenes: Any) -> SceneDataset:
        """Return canvases with one digit."""
        return _Canvases(*scenes)

    def augmenter(self) -> None:
        """Return nothing: each training canvas is new."""


class _Canvases(SceneDataset):
    """Scenes of one digit."""

    batch_of = staticmethod(default_collate)

    def sample(self, scene: Scene, index: int, key: int | None) -> dict[str, Any]:
        """Return a scene with its only digit."""
        image = with_channels(scene.image[None], self.in_chans)[0]
        sample = {"image": image, "label": scene.labels[0], "box": scene.boxes[0] / self.scenes.size, "index": index}
        return sample if key is None else sample | {"key": key}
