"""Image files with mask files as a dataset that hands out finished batches."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cnnbench.data.base import Batch
from cnnbench.data.decoders import encoded_image
from cnnbench.data.file_dataset import finished, whole_samples
from cnnbench.data.image_files import ImageFileError, image_file, upright_size
from cnnbench.data.segmentation.augment import Augmenter, resized
from cnnbench.data.segmentation.base import IGNORED
from cnnbench.data.segmentation.samples import Sample, collate, item_of, parts_of

_MODES = ("1", "L", "P", "I", "I;16")  # of PIL: one number a pixel
_STAND_IN = 64  # pixels a side
_NAMED = 5  # ids of a mask that a message has at most
_TO_INDICES = (
    "Image.fromarray((np.asarray(mask.convert('RGB'))[:, :, None] == np.array(colours)).all(-1).argmax(-1)"
    ".astype('uint8')), colours being the list of the classes' [red, green, blue]"
)


class MaskFileError(ImageFileError):
    """A file that is not the mask of its image."""


class UnknownIdsError(MaskFileError):
    """A mask with numbers that are no class.

    Attributes:
        ids: The numbers.
        rule: What would be right.
    """

    ids: Sequence[int] = ()
    rule = ""

    @classmethod
    def of(cls, path: Path, ids: Sequence[int], class_of_id: Mapping[int, int]) -> "UnknownIdsError":
        """Return the error of a mask's file that has these ids."""
        own = sorted(set(class_of_id) - {IGNORED})
        besides = f", and {IGNORED} for pixels that do not count" if IGNORED in class_of_id else ""
        lossy = "; JPEG changes ids: save masks as PNG" if path.suffix.lower() in (".jpg", ".jpeg") else ""
        rule = f"there are the classes {own[0]} to {own[-1]}{besides}{lossy}"
        error = cls(f"{path} has {the_ids(ids)}: {rule}")
        error.ids, error.rule = ids, rule
        return error


class MaskFiles(Dataset):
    """Image files and their masks, decoded when asked for.

    Args:
        files: Paths of the images.
        masks: Of their masks, in the same order; None: there are none, and no pixel counts.
        class_of_id: The class of each number in a mask file; 255 where its pixels do not count.
        in_chans: 1 for grey, 3 for RGB.
        decoder: One that is installed.
        resize: Pixels that the shorter side is brought to; None: images stay as they are.
        augmenter: How they vary in training; None: evaluation, in which masks stay as large as they are.
        skip_errors: Leave out of a batch what is not a whole image, in place of raising.
    """

    def __init__(
        self,
        files: Sequence[Path],
        masks: Sequence[Path] | None,
        class_of_id: Mapping[int, int],
        in_chans: int,
        decoder: str,
        resize: int | None,
        augmenter: Augmenter | None = None,
        skip_errors: bool = False,
    ) -> None:
        self.files = files
        self.masks = masks
        self.class_of_id = class_of_id
        self.in_chans = in_chans
        self.decoder = decoder
        self.resize = resize
        self.augmenter = augmenter
        self.skip_errors = skip_errors

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: int | tuple[int, int]) -> Sample:
        """Return one sample, by its index or, in training, (index, key).

        Raises:
            ImageFileError: A file is not a whole image, or the mask does not fit the image or the classes.
        """
        return self._sample(*item) if isinstance(item, tuple) else self._sample(item, None)

    def __getitems__(self, items: list[int] | list[tuple[int, int]]) -> Batch:
        """Return the finished batch of these indices or, in training, (index, key) pairs.

        With `skip_errors`, `skipped`, int64 (S,), has the indices of what could not be read; an evaluated batch of
        which nothing could be read has an image in its stead that counts nowhere.

        Raises:
            ImageFileError: As of one sample; with `skip_errors`, a mask does not fit, or no image to train on is whole.
        """
        samples, skipped = whole_samples(items, self._sample, self.skip_errors)
        return finished(collate(samples or [self._stand_in(skipped[0])]), skipped, counts=bool(samples))

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """Return the batch, which `__getitems__` has finished."""
        return batch

    def _sample(self, index: int, key: int | None) -> Sample:
        return self._evaluated(index) if key is None else self._varied(index, key)

    def _stand_in(self, index: int) -> Sample:
        mask = torch.full((_STAND_IN, _STAND_IN), IGNORED, dtype=torch.uint8)
        return Sample(torch.zeros(self.in_chans, *mask.shape, dtype=torch.uint8), mask, index)

    def _evaluated(self, index: int) -> Sample:
        image, mask = self._read(index)
        image, _ = parts_of(resized(item_of(image, mask), self._size(image)))
        return Sample(image, mask, index)

    def _varied(self, index: int, key: int) -> Sample:
        item = item_of(*self._read(index))
        item = self.augmenter(resized(item, self._size(item["image"])), key)
        image, (mask,) = parts_of(item)
        return Sample(image, mask, index, key)

    def _size(self, image: Tensor) -> tuple[int, int]:
        height, width = image.shape[-2:]
        if self.resize is None:
            return height, width
        scale = self.resize / min(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image, uint8 (C, H, W), and its mask, uint8 (H, W)."""
        path = self.files[index]
        with encoded_image(path, self.decoder) as file:
            size = file.height, file.width
            image = file.pixels((0, 0, file.width, file.height), self.in_chans)
        check_pixels(path, size)
        if self.masks is None:
            return image, torch.full(size, IGNORED, dtype=torch.uint8)
        mask = read_mask(self.masks[index], self.class_of_id)
        check_size(path, size, self.masks[index], tuple(mask.shape))
        return image, mask


def read_mask(path: Path, class_of_id: Mapping[int, int]) -> Tensor:
    """Return the class of each pixel, uint8 (H, W).

    Args:
        path: An image with one number a pixel, with a palette or without.
        class_of_id: The class of each number.

    Raises:
        MaskFileError: The file has colours instead of numbers, or numbers that are no class.
    """
    with image_file(path) as image:
        mode, ids = image.mode, np.asarray(image).astype(np.int64)
    if mode not in _MODES:
        grey = ids.ndim == 3 and bool((ids[..., :3] == ids[..., :1]).all())
        how = "mask.getchannel(0), since its channels are equal" if grey else _TO_INDICES
        raise MaskFileError(f"{path} is in {mode}, a mask has one class id a pixel; to convert it: {how}")
    classes = np.full(max(max(class_of_id), int(ids.max()), 0) + 1, -1, np.int64)
    classes[list(class_of_id)] = list(class_of_id.values())
    found = classes[ids] if ids.min() >= 0 else np.full_like(ids, -1)
    if found.min() < 0:
        raise UnknownIdsError.of(path, np.unique(ids[found < 0]).tolist(), class_of_id)
    return torch.from_numpy(found.astype(np.uint8))


def check_pixels(image: Path, size: tuple[int, int]) -> None:
    """Refuse an image of one pixel, by its height and width."""
    if size == (1, 1):
        raise ImageFileError(f"{image} has one pixel: there is nothing to segment")


def check_size(image: Path, image_size: tuple[int, int], mask: Path, mask_size: tuple[int, int]) -> None:
    """Refuse a mask of another height and width than its image."""
    if mask_size != image_size:
        sizes = [f"{width}x{height}" for height, width in (mask_size, image_size)]
        raise MaskFileError(f"{mask} has {sizes[0]} pixels, its image {image} has {sizes[1]}")


def the_ids(ids: Sequence[int]) -> str:
    """Return the ids, of many the first, as a message has them."""
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"the id{'s' * (len(ids) > 1)} {', '.join(map(str, ids[:_NAMED]))}{more}"


def look_at(image: Path, mask: Path, class_of_id: Mapping[int, int]) -> tuple[ImageFileError | None, frozenset[int]]:
    """Return what is wrong with a pair, which begins with the file's name, or None, and the classes of its pixels."""
    try:
        with image_file(image) as file:
            width, height = upright_size(file)
        check_pixels(image, (height, width))
        classes = read_mask(mask, class_of_id)
        check_size(image, (height, width), mask, tuple(classes.shape))
    except ImageFileError as error:
        return error, frozenset()
    return None, frozenset(classes.unique().tolist())
