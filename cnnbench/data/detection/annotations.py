"""The objects of a set of images, and the checks of boxes that somebody wrote."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from cnnbench.errors import UserError

_TOLERANCE = 1.0  # pixels that a box may reach outside its image by rounding


@dataclass(frozen=True)
class Objects:
    """Some objects.

    Attributes:
        boxes: float32 (N, 4), x1, y1, x2, y2 in pixels of the original image.
        labels: int64 (N,), from 0.
        crowd: bool (N,): not to be trained on, ignored in evaluation.
        area: float32 (N,), in pixels of the original image.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    area: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: slice | Tensor) -> "Objects":
        return Objects(*(getattr(self, field.name)[which] for field in fields(self)))


NO_OBJECTS = Objects(
    torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool), torch.zeros(0)
)


class Annotations(Sequence[Objects]):
    """The objects of each image, in a few tensors that worker processes share.

    Args:
        objects: Of all images, one image's after the other's.
        counts: int64 (N,), how many each image has.
        sizes: int64 (N, 2), height and width that each image should have; 0 where they are unknown.
    """

    def __init__(self, objects: Objects, counts: np.ndarray, sizes: np.ndarray) -> None:
        self.objects = objects
        self.sizes = sizes
        self._ends = np.concatenate([[0], np.cumsum(counts)])

    @classmethod
    def none(cls, images: int) -> "Annotations":
        """Return those of images of which nothing is known."""
        return cls(NO_OBJECTS, np.zeros(images, np.int64), np.zeros((images, 2), np.int64))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Objects:
        return self.objects[slice(self._ends[index], self._ends[index + 1])]

    def subset(self, images: np.ndarray) -> "Annotations":
        """Return those of the images at these places, in this order."""
        rows = [np.arange(self._ends[i], self._ends[i + 1]) for i in images]
        counts = np.array([len(own) for own in rows], np.int64)
        chosen = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *rows]))
        return Annotations(self.objects[chosen], counts, self.sizes[images])

    @property
    def counts(self) -> Tensor:
        """How many objects each image has: int64 (N,)."""
        return torch.from_numpy(np.diff(self._ends))

    def with_objects(self) -> np.ndarray:
        """Return the places of the images that have an object to train on: (M,)."""
        seen = np.concatenate([[0], np.cumsum(~self.objects.crowd.numpy())])[self._ends]
        return np.flatnonzero(np.diff(seen) > 0)


def gathered(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[int],
    crowd: Sequence[bool],
    area: np.ndarray,
    sizes: np.ndarray,
    wanted: np.ndarray,
) -> Annotations:
    """Return objects that are listed in any order as those of each image.

    Args:
        image: int64 (N,), the place of each one's image.
        boxes: (N, 4), x1, y1, x2, y2.
        labels: (N,).
        crowd: (N,).
        area: (N,).
        sizes: int64 (M, 2), height and width of each image.
        wanted: bool (N,), which objects to take.
    """
    order = np.argsort(image, kind="stable")
    order = order[wanted[order]]
    objects = Objects(
        torch.from_numpy(boxes[order]).float(),
        torch.tensor(labels, dtype=torch.int64)[order],
        torch.tensor(crowd, dtype=torch.bool)[order],
        torch.from_numpy(area[order]).float(),
    )
    return Annotations(objects, np.bincount(image[order], minlength=len(sizes)), sizes)


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


XYWH = BoxFormat(
    "[x, y, width, height]", lambda boxes: np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
)
XYXY = BoxFormat("[x1, y1, x2, y2]", lambda boxes: boxes)
VOC_CORNERS = BoxFormat("[xmin, ymin, xmax, ymax]", lambda boxes: boxes - [1, 1, 0, 0])  # counted from 1, inclusive


def corners(
    boxes: np.ndarray,
    sizes: np.ndarray,
    name: Callable[[int], str],
    prescribed: BoxFormat,
    other: BoxFormat,
) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes as x1, y1, x2, y2, and refuse what cannot be meant; they may reach beyond an edge.

    Args:
        boxes: float64 (N, 4), as they are written.
        sizes: (N, 2), height and width of each one's image.
        name: Says which box it is, and of what.
        prescribed: How they should be written.
        other: How they are most often written by mistake.

    Returns:
        float64 (N, 4), and bool (N,): which have a size at all.

    Raises:
        UserError: A box is of numbers that are not finite, of negative size or outside its image; or all of them are
            written in another format.
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
    beyond = (found[:, 2:] < 0).any(1) | (found[:, :2] > sizes[:, ::-1]).any(1)
    refuse(beyond, f"as {prescribed.words} it lies outside its image of {{width}}x{{height}} pixels")
    return found, (found[:, 2:] > found[:, :2]).all(1)


def _refuse_parts(
    boxes: np.ndarray, sizes: np.ndarray, refuse: Callable[[np.ndarray, str], None], prescribed: BoxFormat
) -> None:
    """Refuse boxes in parts of the image's sides."""
    if len(boxes) and boxes.max() <= 1 and sizes.min() > 1:
        words = f"all boxes are within 0..1: write them in pixels, as {prescribed.words}"
        refuse(np.ones(len(boxes), bool), words)


def _fits(found: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Tell which boxes have a size and lie in their images."""
    width_height = sizes[:, ::-1] + _TOLERANCE
    within = (found[:, :2] >= -_TOLERANCE).all(1) & (found[:, 2:] <= width_height).all(1)
    return within & (found[:, 2:] > found[:, :2]).all(1)


def _written(box: np.ndarray) -> str:
    return f"[{', '.join(f'{number:g}' for number in box)}]"
