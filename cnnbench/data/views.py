"""How an image file becomes a square of uint8 pixels: at random in training, always alike in evaluation."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.functional as pil_functional
import torchvision.transforms.v2.functional as F
from timm.data.auto_augment import AutoAugment, RandAugment, auto_augment_transform, rand_augment_transform
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode

from cnnbench.data import checks
from cnnbench.data.decoders import EncodedImage, encoded_image, scale_for
from cnnbench.data.image_files import decode, image_file
from cnnbench.errors import UserError

_64_BITS = (1 << 64) - 1  # a key is signed, and Random would take its absolute value

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
_ANTIALIASED = ("bilinear", "bicubic")


@dataclass(frozen=True)
class FolderAugmentation:
    """How the training images of a folder vary. Every draw belongs to (seed, epoch, sample).

    Args:
        scale: Smallest and largest part of the image's area that the random crop takes.
        ratio: Smallest and largest width/height of the crop.
        hflip: Probability of a horizontal flip.
        rotation: Rotate by up to this many degrees, either way; corners get the mean colour.
        color_jitter: Brightness, contrast and saturation vary by up to this part of them.
        auto_augment: timm's name of a policy: of RandAugment such as rand-m9-mstd0.5-inc1, or of AutoAugment such
            as original-mstd0.5.
        random_erasing: Probability that a rectangle is filled with noise of the images' mean and deviation.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    rotation: float = 0.0
    color_jitter: float = 0.0
    auto_augment: str | None = None
    random_erasing: float = 0.0

    def __post_init__(self) -> None:
        checks.ascending("augmentation.scale", self.scale)
        checks.ascending("augmentation.ratio", self.ratio)
        for name in ("hflip", "color_jitter", "random_erasing"):
            checks.probability(f"augmentation.{name}", getattr(self, name))
        checks.angle("augmentation.rotation", self.rotation)
        if self.scale[1] > 1:
            raise UserError(f"augmentation.scale is {list(self.scale)}: a crop takes at most 1, all of it")


@dataclass(frozen=True)
class EvalView:
    """The shorter side brought to image_size / crop_pct, then the centre cut out.

    With the decoder `pil` the pixels are timm's, to the last bit. The others resample by torch, whose pixels differ
    from PIL's by 1 of 255 at most, and decode at 1/2, 1/4 or 1/8 a JPEG of which that leaves enough. There they differ
    by 1 to 6 on average over a photograph, the more the more detailed it is and the less that leaves; with `nearest`,
    which picks single pixels, by 3 to 19.

    Args:
        image_size: Height and width of the result.
        in_chans: 1 for grey, 3 for RGB.
        interpolation: Of the resampling.
        crop_pct: The part of the shorter side that is kept.
        decoder: One that is installed.
    """

    image_size: int
    in_chans: int
    interpolation: str
    crop_pct: float
    decoder: str = "pil"

    def __call__(self, path: Path, key: int | None = None) -> Tensor:
        """Return the image as uint8 (C, H, W); no key changes it."""
        shorter = math.floor(self.image_size / self.crop_pct)
        if self.decoder == "pil":
            with image_file(path) as file:
                image = decode(file, self.in_chans)
            image = pil_functional.resize(image, shorter, InterpolationMode(self.interpolation))
            return F.pil_to_tensor(pil_functional.center_crop(image, self.image_size))
        with encoded_image(path, self.decoder) as file:
            width, height = file.width, file.height
            scale = scale_for(width, height, shorter)
            pixels = file.pixels((0, 0, width, height), self.in_chans, scale)
        size = [int(shorter * side / min(width, height)) for side in (height, width)]
        return F.center_crop(resampled(pixels, size, self.interpolation), [self.image_size] * 2)


class TrainView:
    """A random crop, resampled and varied.

    Args:
        image_size: Height and width of the result.
        in_chans: 1 for grey, 3 for RGB.
        interpolation: Of the resampling.
        augmentation: How images vary.
        mean: Of the images, one number a channel: the colour of what RandAugment leaves empty and of erasing.
        std: The deviation of erasing's noise.
        decoder: One that is installed.
    """

    def __init__(
        self,
        image_size: int,
        in_chans: int,
        interpolation: str,
        augmentation: FolderAugmentation,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        decoder: str = "pil",
    ) -> None:
        self.decoder = decoder
        self.image_size = image_size
        self.in_chans = in_chans
        self.interpolation = interpolation
        self.augmentation = augmentation
        self.mean = np.array(mean)[:, None, None] * 255
        self.std = np.array(std)[:, None, None] * 255
        self.policy = _policy(augmentation.auto_augment, mean, image_size)

    def __call__(self, path: Path, key: int) -> Tensor:
        """Return the image as uint8 (C, H, W), varied as its key says."""
        rng = random.Random(key & _64_BITS)
        with encoded_image(path, self.decoder) as file:
            pixels = self.decoded(file, rng)
        return self.varied(self.brought_to_size(pixels), rng)

    def decoded(self, file: EncodedImage, rng: random.Random) -> Tensor:
        """Return the part of an image that is drawn, no larger than it must be: uint8 (C, h, w)."""
        box = random_crop(file.width, file.height, self.augmentation.scale, self.augmentation.ratio, rng)
        scale = scale_for(box[2] - box[0], box[3] - box[1], self.image_size)
        return file.pixels(box, self.in_chans, scale)

    def brought_to_size(self, pixels: Tensor) -> Tensor:
        """Return the part resampled to uint8 (C, H, W)."""
        return resampled(pixels, [self.image_size] * 2, self.interpolation)

    def varied(self, pixels: Tensor, rng: random.Random) -> Tensor:
        """Return uint8 (C, H, W) flipped, jittered and so on, as is drawn."""
        if rng.random() < self.augmentation.hflip:
            pixels = pixels.flip(-1)
        if self.augmentation.rotation:
            angle = rng.uniform(-self.augmentation.rotation, self.augmentation.rotation)
            fill = self.mean.flatten().round().tolist()
            pixels = F.rotate(pixels, angle, InterpolationMode.BILINEAR, fill=fill)
        if self.augmentation.color_jitter:
            pixels = _jittered(pixels, self.augmentation.color_jitter, rng)
        if self.policy is not None:
            with _seeded_globals(rng.getrandbits(32)):
                pixels = F.pil_to_tensor(self.policy(F.to_pil_image(pixels)))
        if rng.random() < self.augmentation.random_erasing:
            pixels = self._erased(pixels, rng)
        return pixels

    def _erased(self, pixels: Tensor, rng: random.Random) -> Tensor:
        """Fill 2 % to a third of the area (Zhong et al. 2020) with noise, cut at black and white."""
        left, top, right, bottom = random_crop(self.image_size, self.image_size, (0.02, 1 / 3), (0.3, 1 / 0.3), rng)
        noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(
            (len(pixels), bottom - top, right - left), dtype=np.float32
        )
        pixels = pixels.clone()
        patch = (noise * self.std + self.mean).clip(0, 255).round()
        pixels[:, top:bottom, left:right] = torch.from_numpy(patch)
        return pixels


def resampled(pixels: Tensor, size: list[int], interpolation: str) -> Tensor:
    """Return uint8 pixels (C, H, W) at another size [height, width], antialiased as PIL does it."""
    mode = "nearest-exact" if interpolation == "nearest" else interpolation  # torch's nearest is not PIL's
    # From (H, W, C) a batch of one keeps its channels last in memory, for which torch is twice as fast.
    batch = pixels.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return interpolate(batch, size, mode=mode, antialias=mode in _ANTIALIASED)[0]


def random_crop(
    width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], rng: random.Random
) -> tuple[int, int, int, int]:
    """Draw a box (left, top, right, bottom) as Inception's training does (Szegedy et al. 2015, section 6).

    Area and logarithm of the aspect ratio are uniform; after ten boxes that do not fit, the largest central
    one with an allowed ratio.
    """
    smallest, largest = ratio
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * largest)))
    h = max(1, min(height, round(width / smallest)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _jittered(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    changes = [F.adjust_brightness, F.adjust_contrast]
    changes += [F.adjust_saturation] if len(pixels) == 3 else []
    for change in rng.sample(changes, len(changes)):
        pixels = change(pixels, rng.uniform(1 - strength, 1 + strength))
    return pixels


def _policy(name: str | None, mean: tuple[float, ...], image_size: int) -> RandAugment | AutoAugment | None:
    """Return timm's policy with timm's own settings for this size, or None."""
    if name is None:
        return None
    fill = tuple(min(255, round(255 * m)) for m in mean)
    settings = {"translate_const": int(image_size * 0.45), "img_mean": fill if len(fill) == 3 else fill[0]}
    create = rand_augment_transform if name.startswith("rand") else auto_augment_transform
    try:
        return create(name, settings)
    except (AssertionError, ValueError, KeyError) as error:
        raise UserError(
            f"augmentation.auto_augment is {name!r}: it must be such as 'rand-m9-mstd0.5-inc1' or 'original'"
        ) from error


@contextmanager
def _seeded_globals(seed: int) -> Iterator[None]:
    """Seed Python's and numpy's global generators, which timm draws from, and put them back afterwards."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
