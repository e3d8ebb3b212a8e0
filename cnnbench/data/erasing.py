"""Random erasing of a batch: Zhong, Zheng, Kang, Li, Yang, 2017, https://arxiv.org/abs/1708.04896."""

import math

import torch
from torch import Tensor

from cnnbench.data.draws import uniform

AREA = (0.02, 1 / 3)  # of the image's
RATIO = (0.3, 1 / 0.3)  # width over height


def erase(
    images: Tensor, probability: float, draws: Tensor, keys: Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """Fill a rectangle of some images with noise, in whole levels.

    Area and logarithm of the aspect ratio are uniform; a side is at most the image's.

    Args:
        images: float32 (B, C, H, W) of 0..255.
        probability: That an image has a rectangle.
        draws: (B, 5) of [0, 1): whether, area, aspect ratio, top, left.
        keys: int64 (B,), of the noise alone.
        mean: Of the noise, one number a channel, of pixels in 0..1.
        std: The same.
    """
    some = (draws[:, 0] < probability).nonzero()[:, 0]
    erased = _rectangles(draws[some], *images.shape[-2:])[:, None]  # (n, 1, H, W)
    noise = _noise(images[some], keys[some], mean, std)
    return images.index_copy(0, some, torch.where(erased, noise, images[some]))


def _rectangles(draws: Tensor, height: int, width: int) -> Tensor:
    """Return as (B, H, W) which pixels are inside."""
    _, area, ratio, top, left = draws.unbind(1)
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area)
    ratio = torch.exp(math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * ratio)
    rows = _inside(height, (area / ratio).sqrt(), top)  # (B, H)
    columns = _inside(width, (area * ratio).sqrt(), left)  # (B, W)
    return rows[:, :, None] & columns[:, None, :]


def _inside(size: int, length: Tensor, start: Tensor) -> Tensor:
    """Tell for each place along a side whether it is within a stretch of `length` pixels, placed by `start`."""
    length = length.round().clamp(1, size)[:, None]
    first = (start[:, None] * (size - length + 1)).floor()
    place = torch.arange(size, device=length.device)
    return (place >= first) & (place < first + length)


def _noise(images: Tensor, keys: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return normal noise cut at black and white."""
    normal = torch.special.ndtri(uniform(keys, images.shape[1:].numel()) + 2.0**-25).view_as(images)
    mean, std = (255 * torch.tensor(value, device=images.device).view(-1, 1, 1) for value in (mean, std))
    return (normal * std + mean).clamp(0, 255).round()
