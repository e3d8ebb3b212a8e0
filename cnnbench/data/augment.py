"""Augmentation of a whole batch at once, on the device that holds it."""

import math
from dataclasses import dataclass
from functools import lru_cache
from threading import get_ident

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from cnnbench.data import checks
from cnnbench.data.color import jitter
from cnnbench.data.draws import bits, uniform
from cnnbench.data.erasing import erase
from cnnbench.data.rand_augment import LARGEST_MAGNITUDE, rand_augment
from cnnbench.data.warp import rotate_scale
from cnnbench.errors import UserError


@dataclass(frozen=True)
class BatchAugmentation:
    """How the training images of an in-memory set vary, in this order. Every draw belongs to (seed, epoch, sample).

    Args:
        crop_padding: Shift by up to this many pixels in each direction: a crop out of the image with a black
            border.
        hflip: Probability of a horizontal flip.
        rotation: Rotate by up to this many degrees, either way.
        scale: Smallest and largest magnification.
        color_jitter: Brightness, contrast and saturation vary by up to this part of them, in any order.
        rand_augment: Operations of RandAugment on each image, those of torchvision; 0: none.
        rand_augment_magnitude: Their strength, 0 to 30.
        random_erasing: Probability that a rectangle is filled with noise of the images' mean and deviation.
    """

    crop_padding: int = 0
    hflip: float = 0.0
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    color_jitter: float = 0.0
    rand_augment: int = 0
    rand_augment_magnitude: int = 9
    random_erasing: float = 0.0

    def __post_init__(self) -> None:
        checks.at_least("augmentation.crop_padding", self.crop_padding, 0)
        for name in ("hflip", "color_jitter", "random_erasing"):
            checks.probability(f"augmentation.{name}", getattr(self, name))
        checks.at_least("augmentation.rand_augment", self.rand_augment, 0)
        if not 0 <= self.rand_augment_magnitude <= LARGEST_MAGNITUDE:
            raise UserError(
                f"augmentation.rand_augment_magnitude is {self.rand_augment_magnitude}: it must be between 0 and "
                f"{LARGEST_MAGNITUDE}"
            )
        checks.angle("augmentation.rotation", self.rotation)
        checks.ascending("augmentation.scale", self.scale)

    def __call__(
        self, images: Tensor, keys: Tensor, mean: tuple[float, ...] = (0.5,), std: tuple[float, ...] = (0.25,)
    ) -> Tensor:
        """Return the images as these keys vary them.

        Args:
            images: uint8 (B, C, H, W).
            keys: int64 (B,), from `cnnbench.data.draws.sample_keys`.
            mean: Of erasing's noise, one number for all channels or one each, of pixels in 0..1.
            std: The same.

        Returns:
            (B, C, H, W): uint8, or float32 of 0..255 where more than crop and flip changed it.
        """
        moves = self.rotation or tuple(self.scale) != (1.0, 1.0)
        draws = uniform(keys, 5 if moves else 3).T  # each has its place in a sample's sequence, taken or not
        shifts = 2 * self.crop_padding + 1
        if self.crop_padding or self.hflip:
            top, left = (draws[:2] * shifts).long()
            images = _crop_flip(images, self.crop_padding, top, left, draws[2] < self.hflip)
        if moves:
            angle = (2 * draws[3] - 1) * math.radians(self.rotation)
            smallest, largest = self.scale
            images = rotate_scale(images, angle, smallest + (largest - smallest) * draws[4])
        return self._recolored(images, keys, mean, std)

    def _recolored(self, images: Tensor, keys: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
        """Apply what works on whole levels."""
        if self.color_jitter or self.rand_augment or self.random_erasing:
            images = images.float().round()
        if self.color_jitter:
            images = jitter(images, self.color_jitter, uniform(keys, 4, first=5))
        if self.rand_augment:
            draws = uniform(keys, 2 * self.rand_augment, first=15).unflatten(1, (-1, 2))
            images = rand_augment(images, self.rand_augment_magnitude, draws)
        if self.random_erasing:
            noise = bits(keys, 1, first=14)[:, 0]
            images = erase(images, self.random_erasing, uniform(keys, 5, first=9), noise, mean, std)
        return images


def _crop_flip(images: Tensor, padding: int, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Cut each image at its `top` and `left` out of itself in a black border, then mirror where `flip`."""
    if images.device.type == "cpu":
        return _crop_flip_on_cpu(images, padding, top, left, flip)
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    column = torch.arange(width, device=images.device)
    columns = torch.where(flip[:, None], width - 1 - column, column) + left[:, None]  # (B, W)
    rows = torch.arange(height, device=images.device) + top[:, None]  # (B, H)
    source = rows[:, :, None] * padded.shape[-1] + columns[:, None, :]  # (B, H, W)
    source = source.view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, source).view_as(images)


def _crop_flip_on_cpu(images: Tensor, padding: int, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Do the same as one index into all windows of the bordered images."""
    inside, windows = _border(*images.shape, padding, get_ident())
    inside[...] = images.contiguous().numpy().view(inside.dtype)
    cropped = windows[np.arange(len(images)), :, top.numpy(), left.numpy()].view(np.uint8)
    mirrored = flip.numpy().nonzero()[0]
    cropped[mirrored] = torch.from_numpy(cropped[mirrored]).flip(-1).numpy()  # numpy's own flip takes twice as long
    return torch.from_numpy(cropped)


@lru_cache(maxsize=4)
def _border(
    batch: int, channels: int, height: int, width: int, padding: int, thread: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inside of a black border, (B, C, H, 1), and all windows, (B, C, 2P + 1, 2P + 1, H, 1).

    An element is a row of pixels, which is copied at once. A thread's next batch takes the place of this one.
    """
    bordered = np.zeros((batch, channels, height + 2 * padding, width + 2 * padding), np.uint8)
    inside = bordered[..., padding : padding + height, padding : padding + width]
    windows = sliding_window_view(bordered, (height, width), axis=(2, 3))
    return inside.view(f"V{width}"), windows.view(f"V{width}")


NO_AUGMENTATION = BatchAugmentation()
