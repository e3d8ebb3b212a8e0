"""Batches of uint8 images: another number of channels, another size, normalisation."""

import mmap
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

_IN_CACHE = 1 << 17  # numbers that a processor's cache holds between one operation and the next
_NEVER_KEPT = 1 << 25  # bytes: what is larger, C's allocator returns to the system at once
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

    On a CPU the system hands out memory of this size anew each time, page by page, which takes twice as long as
    filling it; huge pages are few.
    """
    size = 4 * images.numel()
    if images.device.type != "cpu" or size < _NEVER_KEPT or not _has_huge_pages():
        return torch.empty(images.shape, device=images.device)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32).view(images.shape)


@cache
def _has_huge_pages() -> bool:
    return hasattr(mmap, "MADV_HUGEPAGE") and Path("/sys/kernel/mm/transparent_hugepage").is_dir()


@cache
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    scale = [1 / (255 * s) for s in std]
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    return torch.tensor(scale, device=device).view(-1, 1, 1), torch.tensor(shift, device=device).view(-1, 1, 1)
