"""Image files with boxes as a dataset that hands out finished batches."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cnnbench.data.base import Batch
from cnnbench.data.decoders import encoded_image, scale_for
from cnnbench.data.detection.annotations import Annotations
from cnnbench.data.detection.augment import Augmenter
from cnnbench.data.detection.fit import Fit
from cnnbench.data.detection.items import Item, item_of, resized, sample_of, size_of
from cnnbench.data.detection.samples import Sample, collate
from cnnbench.data.image_files import ImageFileError
from cnnbench.data.samplers import index_and_key

_FOR_PARTS = 2  # times the size that is wanted: what a training image is decoded at least at, since parts are enlarged


class AnnotatedImageError(ImageFileError):
    """A file that is not the image that its annotations are of."""


class DetectionFiles(Dataset):
    """Image files and their objects, decoded when asked for.

    Args:
        files: Their paths.
        annotations: Of each of them.
        in_chans: 1 for grey, 3 for RGB.
        decoder: One that is installed.
        fit: The size they are brought to.
        augmenter: How they vary in training; None: evaluation.
    """

    def __init__(
        self,
        files: Sequence[Path],
        annotations: Annotations,
        in_chans: int,
        decoder: str,
        fit: Fit,
        augmenter: Augmenter | None = None,
    ) -> None:
        self.files = files
        self.annotations = annotations
        self.in_chans = in_chans
        self.decoder = decoder
        self.fit = fit
        self.augmenter = augmenter

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: int | tuple[int, int]) -> Sample:
        """Return one sample, by its index or, in training, (index, key).

        Raises:
            ImageFileError: The file is not a whole image, or not of the size that its annotations name.
        """
        return self.samples([item])[0]

    def __getitems__(self, items: list[int] | list[tuple[int, int]]) -> Batch:
        """Return the finished batch of these indices or, in training, (index, key) pairs."""
        return collate(self.samples(items), self.fit.canvas)

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """Return the batch, which `__getitems__` has finished."""
        return batch

    def samples(self, items: list[int] | list[tuple[int, int]]) -> list[Sample]:
        """Return the samples of a batch."""
        index, key = index_and_key(items)
        if key is None:
            return [self._evaluated(own) for own in index.tolist()]
        return [self._varied(own, own_key) for own, own_key in zip(index.tolist(), key.tolist(), strict=True)]

    def _evaluated(self, index: int) -> Sample:
        item, original_size = self._read(index, 1)
        item = resized(item, self.fit.size(*original_size))
        return sample_of(item, self.annotations[index].area, original_size, index)

    def _varied(self, index: int, key: int) -> Sample:
        item, _ = self._read(index, _FOR_PARTS)
        item = self.augmenter(item, self._drawn, key)
        return sample_of(item, None, size_of(item), index, key)

    def _drawn(self) -> Item:
        return self._read(int(torch.randint(len(self), ())), _FOR_PARTS)[0]

    def _read(self, index: int, times: int) -> tuple[Item, tuple[int, int]]:
        """Return an image with its objects, at `times` the size it is brought to or larger, and its original size."""
        path, objects = self.files[index], self.annotations[index]
        with encoded_image(path, self.decoder) as file:
            height, width = file.height, file.width
            scale = scale_for(width, height, times * min(self.fit.size(height, width)))
            pixels = file.pixels((0, 0, width, height), self.in_chans, scale)
        self._check_size(index, height, width)
        boxes = objects.boxes * _each_side(pixels, height, width)
        return item_of(pixels, boxes, objects.labels, objects.crowd, objects.difficult), (height, width)

    def _check_size(self, index: int, height: int, width: int) -> None:
        expected = tuple(self.annotations.sizes[index].tolist())
        if any(expected) and expected != (height, width):
            raise AnnotatedImageError(
                f"{self.files[index]} has {width}x{height} pixels upright, its annotations are of "
                f"{expected[1]}x{expected[0]}"
            )


def _each_side(pixels: Tensor, height: int, width: int) -> Tensor:
    """Return what takes a box of the original image to its decoded pixels."""
    down, across = pixels.shape[1] / height, pixels.shape[2] / width
    return torch.tensor([across, down, across, down])
