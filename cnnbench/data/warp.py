"""Batches of images shifted, sheared, turned and magnified, each by a number of its own."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def rotate_scale(images: Tensor, angle: Tensor, scale: Tensor) -> Tensor:
    """Turn each image about its centre by `angle` (radians, counter-clockwise) and magnify it by `scale`."""
    cos, sin = angle.cos() / scale, angle.sin() / scale
    zero = torch.zeros_like(angle)
    return _warped(images, (cos, -sin, zero), (sin, cos, zero))


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn each image about its centre, counter-clockwise."""
    return rotate_scale(images, degrees * (math.pi / 180), torch.ones_like(degrees))


def shear_x(images: Tensor, slope: Tensor) -> Tensor:
    """Take each row from `slope` pixels further right for every row above it."""
    zero, one = torch.zeros_like(slope), torch.ones_like(slope)
    return _warped(images, (one, slope, slope * (images.shape[-2] / 2)), (zero, one, zero))


def shear_y(images: Tensor, slope: Tensor) -> Tensor:
    """Take each column from `slope` pixels further down for every column to its left."""
    zero, one = torch.zeros_like(slope), torch.ones_like(slope)
    return _warped(images, (one, zero, zero), (slope, one, slope * (images.shape[-1] / 2)))


def translate_x(images: Tensor, part: Tensor) -> Tensor:
    """Shift right by this part of the width, in whole pixels."""
    zero, one = torch.zeros_like(part), torch.ones_like(part)
    return _warped(images, (one, zero, -(part * images.shape[-1]).trunc()), (zero, one, zero))


def translate_y(images: Tensor, part: Tensor) -> Tensor:
    """Shift down by this part of the height, in whole pixels."""
    zero, one = torch.zeros_like(part), torch.ones_like(part)
    return _warped(images, (one, zero, zero), (zero, one, -(part * images.shape[-2]).trunc()))


def _warped(images: Tensor, x_from: tuple[Tensor, ...], y_from: tuple[Tensor, ...]) -> Tensor:
    """Take each pixel (x, y) from a x + b y + c, bilinearly; what lies outside is black.

    Args:
        images: (B, C, H, W), of which float32 is returned.
        x_from: a, b and c of the place's x, each (B,); in pixels from the centre.
        y_from: The same of its y.
    """
    height, width = images.shape[-2:]
    x = (torch.arange(width, device=images.device) + 0.5 - width / 2)[None, None, :]
    y = (torch.arange(height, device=images.device) + 0.5 - height / 2)[None, :, None]
    (a, b, c), (d, e, f) = ([part[:, None, None] for part in parts] for parts in (x_from, y_from))  # (B, 1, 1) each
    grid = torch.stack([(a * x + b * y + c) / (width / 2), (d * x + e * y + f) / (height / 2)], -1)  # (B, H, W, 2)
    return F.grid_sample(images.float(), grid, padding_mode="zeros", align_corners=False)
