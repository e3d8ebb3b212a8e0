"""RandAugment of a batch: Cubuk, Zoph, Shlens, Le, 2019, https://arxiv.org/abs/1909.13719.

Each image gets operations of its own, drawn from torchvision's list with torchvision's strengths.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cnnbench.data import color, warp

LARGEST_MAGNITUDE = 30


class Operation(NamedTuple):
    """What can happen to an image.

    Attributes:
        change: Of images (B, C, H, W) and the strengths (B,).
        strongest: The strength at the largest magnitude; it is 0 at magnitude 0.
        signed: Whether half of the images get the negative strength.
    """

    change: Callable[[Tensor, Tensor], Tensor]
    strongest: float = 0.0
    signed: bool = False


OPERATIONS = {
    "Identity": Operation(lambda images, _: images),
    "ShearX": Operation(warp.shear_x, 0.3, signed=True),
    "ShearY": Operation(warp.shear_y, 0.3, signed=True),
    "TranslateX": Operation(warp.translate_x, 150 / 331, signed=True),
    "TranslateY": Operation(warp.translate_y, 150 / 331, signed=True),
    "Rotate": Operation(warp.rotate, 30.0, signed=True),
    "Brightness": Operation(lambda images, part: color.brightness(images, 1 + part), 0.9, signed=True),
    "Color": Operation(lambda images, part: color.saturation(images, 1 + part), 0.9, signed=True),
    "Contrast": Operation(lambda images, part: color.contrast(images, 1 + part), 0.9, signed=True),
    "Sharpness": Operation(lambda images, part: color.sharpness(images, 1 + part), 0.9, signed=True),
    "Posterize": Operation(color.posterize, 4.0),
    "Solarize": Operation(color.solarize, 255.0),
    "AutoContrast": Operation(lambda images, _: color.autocontrast(images)),
    "Equalize": Operation(lambda images, _: color.equalize(images)),
}


def rand_augment(images: Tensor, magnitude: int, draws: Tensor) -> Tensor:
    """Return the images, changed by one operation after the other.

    Args:
        images: float32 (B, C, H, W) of whole numbers 0..255.
        magnitude: Strength of the operations, 0..30.
        draws: (B, operations, 2) of [0, 1): which operation, and its sign.

    Returns:
        The same kind of images.
    """
    operations = list(OPERATIONS.values())
    chosen = (draws[..., 0] * len(operations)).long().T.tolist()  # the one time that the host waits for the device
    for choices, signs in zip(chosen, draws[..., 1].T, strict=True):
        changed = torch.empty_like(images)
        for number in set(choices):
            rows = [row for row, choice in enumerate(choices) if choice == number]
            index = torch.tensor(rows, device=images.device)
            strength = _strength(operations[number], magnitude, signs[index])
            changed[index] = operations[number].change(images[index], strength).round()
        images = changed
    return images


def _strength(operation: Operation, magnitude: int, signs: Tensor) -> Tensor:
    strength = torch.full_like(signs, operation.strongest * magnitude / LARGEST_MAGNITUDE)
    return torch.where(signs < 0.5, -strength, strength) if operation.signed else strength
