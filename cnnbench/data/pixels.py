"""Batches of uint8 images: another number of channels, another size, normalisation."""

import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_IN_CACHE = 1 << 18  # numbers that a processor's cache holds between one operation and the next
_OFTEN_RETURNED = 1 << 17  # bytes: memory from this size on, C's allocator gives back to the system
_unused: deque[np.ndarray] = deque(maxlen=2)  # memory of batches that are gone
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, PIL's and torchvision's weights of grey


def with_channels(images: Tensor, in_chans: int) -> Tensor:
    """Return uint8 images (B, 1 or 3, H, W) as (B, in_chans, H, W): grey repeated, or colour's luminance."""
    if images.shape[1] == in_chans:
        return images
    if in_chans == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    grey = images.new_empty(len(images), 1, *images.shape[2:])
    weights = torch.tensor(LUMINANCE).view(3, 1, 1)
    for some, out in zip(images.split(1000), grey.split(1000), strict=True):
        out.copy_((some * weights).sum(1, keepdim=True).round_())
    return grey


def channel_statistics(values: Sequence[float], in_chans: int) -> tuple[float, ...]:
    """Return a mean or a standard deviation given for 1 or 3 channels as one for `in_chans`.

    The luminance's mean is exact; its standard deviation is taken as the weighted mean of the colours', which
    is what it would be if they rose and fell together, and a few per cent too high for photographs.
    """
    if len(values) == in_chans:
        return tuple(values)
    if in_chans == 3:
        return tuple(values) * 3
    return (sum(weight * value for weight, value in zip(LUMINANCE, values, strict=True)),)


def resized(images: Tensor, size: int) -> Tensor:
    """Return uint8 images (B, C, H, W) resampled to (B, C, size, size), bilinear with antialiasing."""
    if images.shape[2:] == (size, size):
        return images
    out = images.new_empty(*images.shape[:2], size, size)
    for some, target in zip(images.split(1000), out.split(1000), strict=True):
        larger = F.interpolate(some.float(), (size, size), mode="bilinear", align_corners=False, antialias=True)
        target.copy_(larger.round_().clamp_(0, 255))
    return out


def normalized(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return images (B, C, H, W) of 0..255 as float32, from which `mean` is taken and which `std` divides.

    Args:
        images: uint8, or float32 after an augmentation that interpolates.
        mean: One number a channel, of pixels in 0..1.
        std: The same.
    """
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), images.device)
    out = _room_for(images)
    at_a_time = max(1, _IN_CACHE // images[0].numel()) if images.device.type == "cpu" else len(images)
    for some, target in zip(images.split(at_a_time), out.split(at_a_time), strict=True):
        target.copy_(some).mul_(scale).add_(shift)
    return out


def _room_for(images: Tensor) -> Tensor:
    """Return an empty float32 tensor of the images' shape.

    On a CPU that is memory of an earlier batch, once no tensor is in it any more: new memory comes from the system
    page by page, which takes longer than filling it.
    """
    numbers = images.numel()
    if images.device.type != "cpu" or 4 * numbers < _OFTEN_RETURNED:
        return torch.empty(images.shape, dtype=torch.float32, device=images.device)
    memory = _unused_of(numbers)
    if memory is None:
        memory = np.empty(numbers, np.float32)  # of the system's huge pages, where it has some
    lent = memory[:numbers]  # lives as long as the storage of the tensor that is made of it
    weakref.finalize(lent, _unused.append, memory).atexit = False
    return torch.from_numpy(lent).view(images.shape)


def _unused_of(numbers: int) -> np.ndarray | None:
    """Return memory that is large enough, and not much too large; smaller one is given back to the system."""
    with suppress(IndexError):  # where another thread has taken the last
        for _ in range(len(_unused)):
            memory = _unused.popleft()
            if numbers <= memory.size <= 2 * numbers:
                return memory
            if memory.size > numbers:
                _unused.append(memory)
    return None


@cache
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    scale = [1 / (255 * s) for s in std]
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    return torch.tensor(scale, device=device).view(-1, 1, 1), torch.tensor(shift, device=device).view(-1, 1, 1)
