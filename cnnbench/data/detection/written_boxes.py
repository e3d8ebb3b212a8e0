"""The boxes that somebody wrote: their formats, and the check that they can be meant."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnnbench.errors import UserError

_TOLERANCE = 2.0  # pixels that a box may reach beyond its image by rounding of corners and of sizes


def left_out(has_size: np.ndarray, name: Callable[[int], str]) -> list[str]:
    """Return what a user is to know of boxes without a size."""
    if has_size.all():
        return []
    return [f"left out {(~has_size).sum()} boxes of width or height 0, such as {name(int(has_size.argmin()))}"]


@dataclass(frozen=True)
class BoxFormat:
    """How four numbers tell a box.

    Attributes:
        words: As a message calls it.
        to_corners: From (N, 4) to x1, y1, x2, y2, from 0.
    """

    words: str
    to_corners: Callable[[np.ndarray], np.ndarray]


def _from_xywh(boxes: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # the largest numbers become infinite, and are refused
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


XYWH = BoxFormat("[x, y, width, height]", _from_xywh)
XYXY = BoxFormat("[x1, y1, x2, y2]", lambda boxes: boxes)
VOC_CORNERS = BoxFormat("[xmin, ymin, xmax, ymax]", lambda boxes: boxes - [1, 1, 0, 0])  # counted from 1, inclusive


def corners(
    boxes: np.ndarray,
    sizes: np.ndarray,
    name: Callable[[int], str],
    prescribed: BoxFormat,
    other: BoxFormat,
) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes as x1, y1, x2, y2, and refuse what cannot be meant; what is beyond an edge by rounding is cut off.

    Args:
        boxes: float64 (N, 4), as they are written.
        sizes: (N, 2), height and width of each one's image.
        name: Says which box it is, and of what.
        prescribed: How they should be written.
        other: How they are most often written by mistake.

    Returns:
        float64 (N, 4), within the images, and bool (N,): which have a size at all.

    Raises:
        UserError: A box is of numbers that are not finite, of negative size or reaches beyond its image by more than
            two pixels; or all of them are written in another format.
    """

    def refuse(wrong: np.ndarray, why: str) -> None:
        if wrong.any():
            first = int(wrong.argmax())
            height, width = sizes[first]
            raise UserError(f"{name(first)} is {_written(boxes[first])}: {why.format(width=width, height=height)}")

    refuse(~np.isfinite(boxes).all(1), "its numbers must be finite")
    _refuse_parts(boxes, sizes, refuse, prescribed)
    found = prescribed.to_corners(boxes)
    misread = ~_fits(found, sizes)
    if misread.any() and _fits(other.to_corners(boxes), sizes).all():
        refuse(
            misread,
            f"as {prescribed.words} it does not fit its image of {{width}}x{{height}} pixels, as "
            f"{other.words} it and all others do: write them as {prescribed.words}",
        )
    refuse((found[:, 2:] < found[:, :2]).any(1), f"as {prescribed.words} its size is negative")
    beyond = f"as {prescribed.words} it reaches beyond its image of {{width}}x{{height}} pixels"
    refuse(~_is_within(found, sizes), beyond)
    found = found.clip(0, np.tile(sizes[:, ::-1], 2))
    return found, _has_size(found)


def _refuse_parts(
    boxes: np.ndarray, sizes: np.ndarray, refuse: Callable[[np.ndarray, str], None], prescribed: BoxFormat
) -> None:
    """Refuse boxes in parts of the image's sides."""
    if len(boxes) and boxes.max() <= 1 and sizes.min() > 1:
        words = f"all boxes are within 0..1: write them in pixels, as {prescribed.words}"
        refuse(np.ones(len(boxes), bool), words)


def _fits(found: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Tell which boxes have a size and lie in their images."""
    return _is_within(found, sizes) & _has_size(found)


def _has_size(found: np.ndarray) -> np.ndarray:
    return (found[:, 2:] > found[:, :2]).all(1)


def _is_within(found: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Tell which boxes lie in their images, but for rounding."""
    width_height = np.tile(sizes[:, ::-1], 2) + _TOLERANCE
    return ((found >= -_TOLERANCE) & (found <= width_height)).all(1)


def _written(box: np.ndarray) -> str:
    return f"[{', '.join(f'{number:g}' for number in box)}]"
