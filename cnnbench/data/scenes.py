"""Scenes of handwritten digits: objects of several sizes on a textured canvas, with boxes and instance masks.

A scene is a pure function of its key, in whole numbers (sums in float32 stay below 2^24 and are exact), so that it is
the same to the last bit on every machine. For detection and for segmentation.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnnbench.data import canvases, checks
from cnnbench.data.draws import uniform
from cnnbench.errors import UserError

# Inks on a light canvas, and chalks on a dark one: red, green, blue.
_INKS = np.array(
    [(28, 62, 150), (168, 28, 44), (14, 104, 62), (106, 32, 138), (34, 34, 40), (146, 74, 8), (4, 104, 120)]
)
_CHALKS = np.array(
    [(250, 240, 130), (255, 160, 170), (150, 225, 255), (170, 250, 170), (250, 250, 250), (255, 190, 110)]
)
_PLACES = 4  # that are tried for an object before it is left out
_OF_SCENE = 2  # draws: number of objects, first colour
_OF_OBJECT = 2 + 2 * _PLACES  # draws: which digit, its size, and the places' y and x
_OUTLINE = 104  # of 255, where ink ends: at more of it thin strokes break, at less small loops fill
_SHARPNESS = 3  # of an outline: more of it and enlarged digits have jagged edges, less and they are blurred
_LEAST_VISIBLE = 0.5  # part of an object's ink that those before it leave


Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels."""


@dataclass(frozen=True)
class Scene:
    """An image and what is in it, front to back.

    Attributes:
        image: uint8 (3, H, W).
        boxes: float32 (N, 4), x1, y1, x2, y2 in pixels, tight around what is visible of each object.
        labels: int64 (N,).
        instances: uint8 (H, W): 0 where there is no object, n where the n-th is seen, counted from 1.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    instances: Tensor

    @property
    def masks(self) -> Tensor:
        """What is visible of each object: bool (N, H, W)."""
        return self.instances == torch.arange(1, len(self.labels) + 1, dtype=torch.uint8)[:, None, None]


class SceneGenerator:
    """Makes scenes of digits.

    Args:
        digits: uint8 (N, h, w), ink bright on black.
        labels: int64 (N,).
        size: Height and width of a scene.
        objects: Fewest and most objects of a scene; fewer than drawn where there is no room for more.
        object_size: Smallest and largest height that a digit's image is brought to, in pixels.
        max_overlap: Largest part of an object's box that another's may cover, seen from the smaller of both.

    Raises:
        UserError: An argument makes no scene.
    """

    def __init__(
        self,
        digits: Tensor,
        labels: Tensor,
        size: int = 96,
        objects: tuple[int, int] = (0, 6),
        object_size: tuple[int, int] = (16, 48),
        max_overlap: float = 0.3,
    ) -> None:
        checks.ascending("object_size", object_size)
        checks.probability("max_overlap", max_overlap)
        if not 0 <= objects[0] <= objects[1] <= 255:
            raise UserError(f"objects is {list(objects)}: it must be [fewest, most], between 0 and 255")
        if object_size[1] > size:
            raise UserError(f"object_size is {list(object_size)}: a scene has {size} pixels a side")
        if object_size[0] < digits.shape[1]:
            raise UserError(f"object_size is {list(object_size)}: digits of {digits.shape[1]} pixels are only enlarged")
        border = np.zeros((len(digits), digits.shape[1] + 2, digits.shape[2] + 2), np.float32)
        border[:, 1:-1, 1:-1] = digits.numpy()  # outlines close where ink meets the edge of its image
        self.digits = border
        self.labels = labels.numpy()
        self.size = size
        self.objects = objects
        self.object_size = object_size
        self.max_overlap = max_overlap

    def __call__(self, keys: Tensor) -> list[Scene]:
        """Return the scene of each key (B,), from `cnnbench.data.draws.sample_keys`."""
        of_objects = _OF_SCENE + self.objects[1] * _OF_OBJECT
        draws = uniform(keys, canvases.DRAWS + of_objects).double().numpy()
        return [self._scene(own[: canvases.DRAWS], own[canvases.DRAWS :]) for own in draws]

    def _scene(self, of_canvas: np.ndarray, draws: np.ndarray) -> Scene:
        image, is_light = canvases.canvas(self.size, of_canvas)
        fewest, most = self.objects
        wanted = fewest + _chosen(draws[0], most - fewest + 1)
        instances = np.zeros((self.size, self.size), np.uint8)
        placed = list(self._placed(draws[_OF_SCENE:].reshape(most, _OF_OBJECT)[:wanted], instances))
        colours = _INKS if is_light else _CHALKS
        first = _chosen(draws[1], len(colours))
        for place, glyph in reversed(list(enumerate(placed, first))):
            glyph.paint(image, colours[place % len(colours)])  # neighbours in depth differ
        boxes = np.array([glyph.box for glyph in placed], np.float32).reshape(-1, 4)
        labels = self.labels[[glyph.digit for glyph in placed]]
        return Scene(*map(torch.from_numpy, (image.astype(np.uint8), boxes, labels, instances)))

    def _placed(self, objects: np.ndarray, instances: np.ndarray) -> Iterator["_Glyph"]:
        """Yield the objects that find a place, front to back, and enter what is visible of them into `instances`."""
        taken: list[Box] = []
        smallest, largest = self.object_size
        for which, size, *places in objects:
            digit = _chosen(which, len(self.digits))
            ink = _enlarged(self.digits[digit], smallest + _chosen(size, largest - smallest + 1))
            height, width = ink.shape
            is_ink = ink >= 128
            for y, x in zip(places[::2], places[1::2], strict=True):
                top, left = _chosen(y, self.size - height + 1), _chosen(x, self.size - width + 1)
                own = (left, top, left + width, top + height)
                here = instances[top : top + height, left : left + width]
                visible = is_ink & (here == 0)
                is_hidden = visible.sum() < _LEAST_VISIBLE * is_ink.sum()
                if is_hidden or any(_overlap(own, other) > self.max_overlap for other in taken):
                    continue
                taken.append(own)
                here[visible] = len(taken)
                yield _Glyph(digit, ink, top, left, _around(visible, top, left))
                break


@dataclass(frozen=True)
class _Glyph:
    """A digit in its place.

    Attributes:
        digit: Which one.
        ink: int32 (h, w), how much of each pixel it covers, 0 to 256.
        top: Of `ink` in the scene.
        left: The same.
        box: Around what is visible.
    """

    digit: int
    ink: np.ndarray
    top: int
    left: int
    box: Box

    def paint(self, image: np.ndarray, colour: np.ndarray) -> None:
        """Paint the digit over an image, int32 (3, H, W)."""
        height, width = self.ink.shape
        under = image[:, self.top : self.top + height, self.left : self.left + width]
        under += (colour[:, None, None] - under) * self.ink >> 8


def _overlap(box: Box, other: Box) -> float:
    """Return the part of the smaller of two boxes that the other covers."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    smaller = min((part[2] - part[0]) * (part[3] - part[1]) for part in (box, other))
    return max(width, 0) * max(height, 0) / smaller


def _around(mask: np.ndarray, top: int, left: int) -> Box:
    """Return the box around a mask whose corner is at (top, left)."""
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1


def _chosen(draw: float, choices: int) -> int:
    return int(draw * choices)


def _enlarged(digit: np.ndarray, size: int) -> np.ndarray:
    """Return how much of each pixel a digit covers, cut to its ink: int32 (h, w) of 0..256.

    Args:
        digit: float32 (H, W) of 0..255, with a border of one pixel.
        size: Height that the digit without the border is enlarged to.
    """
    down, across = (canvases.enlarging(round(size * side / (digit.shape[0] - 2)), side) for side in digit.shape)
    ink = (down @ digit @ across.T).astype(np.int32) >> 12  # 64 * 64 * 255 becomes 255
    ink = np.clip((ink - _OUTLINE) * _SHARPNESS + 128, 0, 256)
    rows, columns = ink.any(1).nonzero()[0], ink.any(0).nonzero()[0]
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
