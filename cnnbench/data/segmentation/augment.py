"""How training images and their masks vary together, by torchvision's transforms, and seeded for each sample."""

from dataclasses import dataclass

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from cnnbench.data import checks
from cnnbench.data.segmentation.base import IGNORED
from cnnbench.data.segmentation.samples import Item


@dataclass(frozen=True)
class SegmentationAugmentation:
    """How training images vary, masks with them, in this order. Every draw belongs to (seed, epoch, sample).

    Args:
        color_jitter: Brightness, contrast and saturation vary by up to this part of them, in any order.
        hflip: Probability of a horizontal flip.
        rotation: Degrees that an image is turned by at most, either way; what comes in from outside does not count.
        scale: Smallest and largest factor of the image's size, before a random part of it is taken.
    """

    color_jitter: float = 0.0
    hflip: float = 0.5
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("color_jitter", "hflip"):
            checks.probability(f"augmentation.{name}", getattr(self, name))
        checks.angle("augmentation.rotation", self.rotation)
        checks.ascending("augmentation.scale", self.scale)

    @property
    def changes_nothing(self) -> bool:
        """Whether images stay as they are."""
        return self == SegmentationAugmentation(hflip=0.0)


class Augmenter:
    """Varies images and masks, and takes a part of one size of them; masks keep their classes, or get 255.

    Args:
        augmentation: How they vary.
        size: Height and width of the part; what reaches beyond the image does not count.
        mean: Of the images, one number a channel of pixels in 0..1: the colour beyond an image.
    """

    def __init__(self, augmentation: SegmentationAugmentation, size: int, mean: tuple[float, ...]) -> None:
        self.augmentation = augmentation
        self.size = size
        strength = augmentation.color_jitter
        fill = {tv_tensors.Image: [round(255 * part) for part in mean], tv_tensors.Mask: IGNORED}
        self._color = v2.ColorJitter(strength, strength, strength)
        self._flip = v2.RandomHorizontalFlip(augmentation.hflip)
        self._rotate = v2.RandomRotation(augmentation.rotation, v2.InterpolationMode.BILINEAR, fill=fill)
        self._crop = v2.RandomCrop(size, pad_if_needed=True, fill=fill)

    def __call__(self, item: Item, key: int) -> Item:
        """Return an item as its key, from `cnnbench.data.draws.sample_keys`, varies it."""
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's own generator
            torch.default_generator.manual_seed(key)  # not those of other devices, which are the model's
            if self.augmentation.color_jitter:
                item = self._color(item)
            item = self._flip(item)
            if self.augmentation.rotation:
                item = self._rotate(item)
            return self._crop(self._scaled(item))

    def _scaled(self, item: Item) -> Item:
        smallest, largest = self.augmentation.scale
        factor = smallest + (largest - smallest) * torch.rand(()).item()
        height, width = item["image"].shape[-2:]
        return resized(item, (max(1, round(height * factor)), max(1, round(width * factor))))


def resized(item: Item, size: tuple[int, int]) -> Item:
    """Return an item at another height and width, bilinearly and with antialiasing, masks by the nearest pixel."""
    return item if size == tuple(item["image"].shape[-2:]) else v2.Resize(size, antialias=True)(item)
