"""How training images with boxes vary, by torchvision's transforms, and seeded for each sample."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from cnnbench.data import checks
from cnnbench.data.detection.fit import Fit
from cnnbench.data.detection.items import Item, cut, resized, size_of
from cnnbench.data.detection.mosaic import mosaic

_SMALLEST_CROPPED = 16  # pixels of the shorter side: less, and a part of it may be nothing


@dataclass(frozen=True)
class DetectionAugmentation:
    """How training images vary, boxes and masks with them, in this order. Every draw belongs to (seed, epoch, sample).

    Args:
        mosaic: Probability that an image shares its canvas with three others of the set (Bochkovskiy, Wang and Liao
            2020, "YOLOv4").
        color_jitter: Brightness, contrast and saturation vary by up to this part of them, in any order.
        zoom_out: Probability that an image is put on a canvas of up to four times its sides, filled with the mean.
        iou_crop: Probability of a random part that overlaps an object enough; objects whose centre is outside go (Liu
            et al. 2016, "SSD", section 2.2, as `zoom_out`).
        hflip: Probability of a horizontal flip.
        scale: Smallest and largest factor of the size that evaluation brings images to; of what becomes larger than
            that a random part is taken, and objects of which less than a quarter is left go.
    """

    mosaic: float = 0.0
    color_jitter: float = 0.0
    zoom_out: float = 0.0
    iou_crop: float = 0.0
    hflip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("mosaic", "color_jitter", "zoom_out", "iou_crop", "hflip"):
            checks.probability(f"augmentation.{name}", getattr(self, name))
        checks.ascending("augmentation.scale", self.scale)

    @property
    def changes_nothing(self) -> bool:
        """Whether images stay as they are."""
        return self == DetectionAugmentation(hflip=0.0)


class Augmenter:
    """Varies items and brings them to their size.

    Args:
        augmentation: How they vary.
        fit: The size.
        mean: Of the images, one number a channel of pixels in 0..1: the colour around what is zoomed out.
    """

    def __init__(self, augmentation: DetectionAugmentation, fit: Fit, mean: tuple[float, ...]) -> None:
        self.augmentation = augmentation
        self.fit = fit
        strength = augmentation.color_jitter
        fill = {tv_tensors.Image: tuple(round(255 * part) for part in mean), "others": 0}
        self._color = v2.ColorJitter(strength, strength, strength)
        self._zoom_out = v2.RandomZoomOut(fill, p=augmentation.zoom_out)
        self._crop = v2.RandomIoUCrop()
        self._flip = v2.RandomHorizontalFlip(augmentation.hflip)
        sanitize = v2.SanitizeBoundingBoxes(labels_getter=itemgetter("labels", "crowd", "difficult"))
        self._tidy = v2.Compose([v2.ClampBoundingBoxes(), sanitize])

    def __call__(self, item: Item, another: Callable[[], Item], key: int) -> Item:
        """Return an item as its key varies it.

        Args:
            item: A training image.
            another: Returns one that is drawn from torch's generator.
            key: From `cnnbench.data.draws.sample_keys`.
        """
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's own generator
            torch.default_generator.manual_seed(key)  # not those of other devices, which are the model's
            if torch.rand(()) < self.augmentation.mosaic:
                item = mosaic([item, another(), another(), another()], self.fit.shorter)
            return self._tidy(self._brought_to_size(self._varied(item)))

    def _varied(self, item: Item) -> Item:
        if self.augmentation.color_jitter:
            item = self._color(item)
        if self.augmentation.zoom_out:
            item = self._zoom_out(item)
        can_be_cropped = len(item["labels"]) and min(size_of(item)) >= _SMALLEST_CROPPED
        if torch.rand(()) < self.augmentation.iou_crop and can_be_cropped:
            item = self._crop(item)
        return self._flip(item) if self.augmentation.hflip else item

    def _brought_to_size(self, item: Item) -> Item:
        size = self.fit.size(*size_of(item))
        smallest, largest = self.augmentation.scale
        factor = smallest + (largest - smallest) * torch.rand(()).item()
        item = resized(item, tuple(max(1, round(side * factor)) for side in size))
        height, width = (min(side, most) for side, most in zip(size_of(item), size, strict=True))
        if (height, width) == size_of(item):
            return item
        top, left = (
            int(torch.randint(side - own + 1, ())) for side, own in zip(size_of(item), (height, width), strict=True)
        )
        return cut(item, top, left, height, width)
