"""The objects of a set of images."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Objects:
    """Some objects.

    Attributes:
        boxes: float32 (N, 4), x1, y1, x2, y2 in pixels of the original image.
        labels: int64 (N,), from 0.
        crowd: bool (N,): not one object but many, not to be trained on; in evaluation what is found in it is ignored.
        difficult: bool (N,): not to be trained on; in evaluation its detections are ignored.
        area: float32 (N,), in pixels of the original image.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    difficult: Tensor
    area: Tensor

    @classmethod
    def of(
        cls,
        boxes: np.ndarray,
        labels: Sequence[int],
        area: np.ndarray,
        crowd: Sequence[bool] | None = None,
        difficult: Sequence[bool] | None = None,
    ) -> "Objects":
        """Return objects as they are listed in a file; none is a crowd, or difficult, where that is None."""
        marks = ([False] * len(labels) if given is None else given for given in (crowd, difficult))
        return cls(
            torch.from_numpy(boxes).float(),
            torch.tensor(labels, dtype=torch.int64),
            *(torch.tensor(own, dtype=torch.bool) for own in marks),
            torch.from_numpy(area).float(),
        )

    @property
    def to_train_on(self) -> Tensor:
        """Which a detector is trained to find: bool (N,)."""
        return ~(self.crowd | self.difficult)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: slice | Tensor) -> "Objects":
        return Objects(*(getattr(self, field.name)[which] for field in fields(self)))


NO_OBJECTS = Objects.of(np.zeros((0, 4)), (), np.zeros(0))


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
        seen = np.concatenate([[0], np.cumsum(self.objects.to_train_on.numpy())])[self._ends]
        return np.flatnonzero(np.diff(seen) > 0)


def gathered(objects: Objects, image: np.ndarray, sizes: np.ndarray, wanted: np.ndarray) -> Annotations:
    """Return objects that are listed in any order as those of each image.

    Args:
        objects: N of them.
        image: int64 (N,), the place of each one's image.
        sizes: int64 (M, 2), height and width of each image.
        wanted: bool (N,), which objects to take.
    """
    order = np.argsort(image, kind="stable")
    order = order[wanted[order]]
    counts = np.bincount(image[order], minlength=len(sizes))
    return Annotations(objects[torch.from_numpy(order)], counts, sizes)
