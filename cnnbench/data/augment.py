"""Augmentation of a whole batch at once, on the device that holds it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from cnnbench.data import checks
from cnnbench.data.draws import uniform
from cnnbench.errors import UserError


@dataclass(frozen=True)
class BatchAugmentation:
    """How the training images of an in-memory set vary. Every draw belongs to (seed, epoch, sample).

    Args:
        crop_padding: Shift by up to this many pixels in each direction: a crop out of the image with a black
            border.
        hflip: Probability of a horizontal flip.
        rotation: Rotate by up to this many degrees, either way.
        scale: Smallest and largest magnification.
    """

    crop_padding: int = 0
    hflip: float = 0.0
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        checks.at_least("augmentation.crop_padding", self.crop_padding, 0)
        checks.probability("augmentation.hflip", self.hflip)
        if not 0 <= self.rotation <= 180:
            raise UserError(f"augmentation.rotation is {self.rotation}: it must be between 0 and 180 degrees")
        checks.ascending("augmentation.scale", self.scale)

    def __call__(self, images: Tensor, keys: Tensor) -> Tensor:
        """Return the images as these keys vary them.

        Args:
            images: uint8 (B, C, H, W).
            keys: int64 (B,), from `cnnbench.data.draws.sample_keys`.

        Returns:
            (B, C, H, W): uint8, or float32 of 0..255 where rotation or scale interpolate.
        """
        draws = uniform(keys, 5).unbind(1)  # always five, so that one option does not change another's draws
        shifts = 2 * self.crop_padding + 1
        if self.crop_padding or self.hflip:
            top, left = ((draw * shifts).long() for draw in draws[:2])
            images = _crop_flip(images, self.crop_padding, top, left, draws[2] < self.hflip)
        if self.rotation or tuple(self.scale) != (1.0, 1.0):
            angle = (2 * draws[3] - 1) * math.radians(self.rotation)
            smallest, largest = self.scale
            images = _rotate_scale(images, angle, smallest + (largest - smallest) * draws[4])
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
    """Do the same as one index into all windows of the images and of their mirror images: whole rows are copied."""
    batch, channels, height, width = images.shape
    sides = images.new_zeros(2, batch, channels, height + 2 * padding, width + 2 * padding)
    inner = sides[..., padding : padding + height, padding : padding + width]
    inner[0], inner[1] = images, images.flip(-1)
    left = torch.where(flip, 2 * padding - left, left)  # a window, seen in the mirror
    windows = sliding_window_view(sides.numpy(), (height, width), axis=(3, 4))  # (2, B, C, 2P + 1, 2P + 1, H, W)
    chosen = windows[flip.long().numpy(), np.arange(batch), :, top.numpy(), left.numpy()]
    return torch.from_numpy(chosen)


def _rotate_scale(images: Tensor, angle: Tensor, scale: Tensor) -> Tensor:
    """Turn each image about its centre by `angle` (radians, counter-clockwise) and magnify it by `scale`."""
    height, width = images.shape[-2:]
    x = (torch.arange(width, device=images.device) + 0.5 - width / 2)[None, None, :]  # pixels from the centre
    y = (torch.arange(height, device=images.device) + 0.5 - height / 2)[None, :, None]
    cos, sin = (angle.cos() / scale)[:, None, None], (angle.sin() / scale)[:, None, None]  # (B, 1, 1)
    grid = torch.stack([(cos * x - sin * y) / (width / 2), (sin * x + cos * y) / (height / 2)], -1)  # (B, H, W, 2)
    return F.grid_sample(images.float(), grid, padding_mode="zeros", align_corners=False)


NO_AUGMENTATION = BatchAugmentation()
