"""Image files with boxes as a dataset that hands out finished batches."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cnnbench.data.base import Batch
from cnnbench.data.decoders import encoded_image, scale_for
from cnnbench.data.detection.annotations import NO_OBJECTS, Annotations
from cnnbench.data.detection.augment import Augmenter
from cnnbench.data.detection.fit import Fit
from cnnbench.data.detection.items import Item, item_of, resized, sample_of, size_of
from cnnbench.data.detection.samples import Sample, collate
from cnnbench.data.file_dataset import finished, whole_samples
from cnnbench.data.image_files import ImageFileError

_STAND_IN = 64  # pixels a side
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
        skip_errors: Leave out of a batch what is not a whole image, in place of raising.
    """

    def __init__(
        self,
        files: Sequence[Path],
        annotations: Annotations,
        in_chans: int,
        decoder: str,
        fit: Fit,
        augmenter: Augmenter | None = None,
        skip_errors: bool = False,
    ) -> None:
        self.files = files
        self.annotations = annotations
        self.in_chans = in_chans
        self.decoder = decoder
        self.fit = fit
        self.augmenter = augmenter
        self.skip_errors = skip_errors

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: int | tuple[int, int]) -> Sample:
        """Return one sample, by its index or, in training, (index, key).

        Raises:
            ImageFileError: The file is not a whole image, or not of the size that its annotations name.
        """
        return self._sample(*item) if isinstance(item, tuple) else self._sample(item, None)

    def __getitems__(self, items: list[int] | list[tuple[int, int]]) -> Batch:
        """Return the finished batch of these indices or, in training, (index, key) pairs.

        With `skip_errors`, `skipped`, int64 (S,), has the indices of what could not be read; an evaluated batch of
        which nothing could be read has an image in its stead that counts nowhere.

        Raises:
            ImageFileError: As of one sample; with `skip_errors`, an image is not of the size that its annotations name,
                or none to train on is whole.
        """
        samples, skipped = whole_samples(items, self._sample, self.skip_errors)
        batch = collate(samples or [self._stand_in(skipped[0])], self.fit.canvas)
        return finished(batch, skipped, counts=bool(samples))

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """Return the batch, which `__getitems__` has finished."""
        return batch

    def _sample(self, index: int, key: int | None) -> Sample:
        return self._evaluated(index) if key is None else self._varied(index, key)

    def _stand_in(self, index: int) -> Sample:
        pixels = torch.zeros(self.in_chans, _STAND_IN, _STAND_IN, dtype=torch.uint8)
        item = item_of(pixels, NO_OBJECTS.boxes, NO_OBJECTS.labels)
        return sample_of(item, NO_OBJECTS.area, size_of(item), index)

    def _evaluated(self, index: int) -> Sample:
        item, original_size = self._read(index, 1)
        item = resized(item, self.fit.size(*original_size))
        return sample_of(item, self.annotations[index].area, original_size, index)

    def _varied(self, index: int, key: int) -> Sample:
        item, _ = self._read(index, _FOR_PARTS)
        item = self.augmenter(item, self._drawn, key)
        return sample_of(item, None, size_of(item), index, key)

    def _drawn(self) -> Item:
        """Return an image to be mixed with another one, which is whole: this ends."""
        while True:
            try:
                return self._read(int(torch.randint(len(self), ())), _FOR_PARTS)[0]
            except ImageFileError as error:
                if not self.skip_errors or type(error) is not ImageFileError:
                    raise

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
