"""Colours of a batch, each image changed by a number of its own, to whole levels, as torchvision changes uint8.

Images are float32 (B, C, H, W) of whole numbers 0..255, factors float32 (B,). What an image becomes does not depend on
its batch: sums over pixels are of integers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.data.pixels import LUMINANCE


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by the factor."""
    return _blended(images, torch.zeros_like(images), factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move away from the mean of the grey image, from a factor of 1 on; at 0 only the mean is left."""
    return _blended(images, _mean(_grey(images)), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move away from the grey image; at 0 only that is left."""
    return _blended(images, _grey(images), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Move away from the blurred image; at 0 only that is left. The border of one pixel stays."""
    channels, height, width = images.shape[1:]
    if min(height, width) <= 2:
        return images
    kernel = torch.full((3, 3), 1 / 13, device=images.device)
    kernel[1, 1] = 5 / 13
    blurred = images.clone()
    blurred[..., 1:-1, 1:-1] = F.conv2d(images, kernel.expand(channels, 1, 3, 3), groups=channels).round()
    return _blended(images, blurred, factor)


def jitter(images: Tensor, strength: float, draws: Tensor) -> Tensor:
    """Change brightness, contrast and saturation, each image by factors and in an order of its own.

    Args:
        images: As above.
        strength: Factors are between 1 - strength and 1 + strength.
        draws: (B, 4) of [0, 1): the three factors, and the order.
    """
    factors = 1 + strength * (2 * draws[:, :3] - 1)
    orders = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]], device=images.device)
    for change in orders[(draws[:, 3] * 6).long()].T:  # (B,): 0 brightness, 1 contrast, 2 saturation
        grey = _grey(images)
        others = torch.where(_each(change == 1), _mean(grey), grey) * _each(change != 0)
        images = _blended(images, others, factors.gather(1, change[:, None])[:, 0])
    return images


def posterize(images: Tensor, dropped: Tensor) -> Tensor:
    """Set so many of the eight bits to 0."""
    return images - images % _each(2.0 ** dropped.round())


def solarize(images: Tensor, depth: Tensor) -> Tensor:
    """Invert the levels of 255 - depth and above."""
    return torch.where(images >= _each(255 - depth), 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel to all of 0..255; one of a single level stays."""
    lowest, highest = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    span = highest - lowest
    stretched = ((images - lowest) * (255 / span.clamp(min=1))).clamp(0, 255).floor()
    return torch.where(span > 0, stretched, images)


def equalize(images: Tensor) -> Tensor:
    """Spread the levels of each channel so that all occur about equally often, as PIL does."""
    levels = images.long().flatten(0, 1).flatten(1)  # (B C, H W)
    row = torch.arange(len(levels), device=images.device)[:, None]
    counts = torch.bincount((levels + 256 * row).flatten(), minlength=256 * len(levels)).view(-1, 256)
    brightest = counts.gather(1, levels.amax(1, keepdim=True))
    step = (levels.shape[1] - brightest) // 255
    table = (counts.cumsum(1) - counts + step // 2) // step.clamp(min=1)
    equalized = table.clamp(0, 255).gather(1, levels)
    return torch.where(step > 0, equalized, levels).view_as(images).to(images.dtype)


def _blended(images: Tensor, others: Tensor, factor: Tensor) -> Tensor:
    return (images * _each(factor) + others * _each(1 - factor)).clamp(0, 255).floor()


def _grey(images: Tensor) -> Tensor:
    """Return the luminance (B, 1, H, W) in whole levels."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (weight * channel for weight, channel in zip(LUMINANCE, images.split(1, 1), strict=True))
    return (red + green + blue).round()


def _mean(grey: Tensor) -> Tensor:
    return grey.long().sum((1, 2, 3), keepdim=True).float() / grey[0].numel()


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]
