"""Image files as a dataset that hands out finished batches, and what such datasets share."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cnnbench.data.base import Batch
from cnnbench.data.file_index import ImageFiles
from cnnbench.data.image_files import ImageFileError
from cnnbench.data.samplers import index_and_key
from cnnbench.data.views import EvalView, TrainView

Sample = TypeVar("Sample")


class FileDataset(Dataset):
    """Image files, decoded when asked for.

    Args:
        files: Their paths.
        labels: int64 (N,), or None.
        view: From a path and a key to uint8 (C, H, W).
        skip_errors: Leave out of a batch what cannot be read, in place of raising.
    """

    def __init__(
        self, files: ImageFiles, labels: np.ndarray | None, view: EvalView | TrainView, skip_errors: bool = False
    ) -> None:
        self.files = files
        self.labels = None if labels is None else torch.from_numpy(labels)
        self.view = view
        self.skip_errors = skip_errors

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: int | tuple[int, int]) -> Batch:
        """Return one sample, by its index or, in training, (index, key).

        Raises:
            ImageFileError: The file is not a whole image.
        """
        index, key = item if isinstance(item, tuple) else (item, None)
        sample = {"image": self.view(self.files[index], key or 0), "index": torch.tensor(index)}
        if self.labels is not None:
            sample["label"] = self.labels[index]
        return sample if key is None else sample | {"key": torch.tensor(key)}

    def __getitems__(self, items: list[int] | list[tuple[int, int]]) -> Batch:
        """Return the finished batch of these indices or, in training, (index, key) pairs.

        With `skip_errors`, `skipped`, int64 (S,), has the indices of what could not be read. Where that is all of a
        batch without labels, a black image that nobody counts stands in for it.

        Raises:
            ImageFileError: A file is not a whole image; or, with `skip_errors`, none of a batch with labels is.
        """
        index, key = index_and_key(items)
        images = self.room_for(len(items))
        read: list[int] = []
        keys = [0] * len(items) if key is None else key.tolist()
        for place, (at, own_key) in enumerate(zip(index.tolist(), keys, strict=True)):
            try:
                images[len(read)] = self.view(self.files[at], own_key)
            except ImageFileError:
                is_last_hope = self.labels is not None and place + 1 == len(items) and not read
                if not self.skip_errors or is_last_hope:
                    raise
            else:
                read.append(place)
        return self._batch(images, index, key, read) if read else self._stand_in(images, index)

    def room_for(self, images: int) -> Tensor:
        """Return uint8 (B, C, H, W) to be filled, the channels last in memory, as decoders have them."""
        size, channels = self.view.image_size, self.view.in_chans
        return torch.empty(images, size, size, channels, dtype=torch.uint8).permute(0, 3, 1, 2)

    def _batch(self, images: Tensor, index: Tensor, key: Tensor | None, read: list[int]) -> Batch:
        batch = {"image": images, "index": index}
        if len(read) < len(index):
            chosen = torch.tensor(read)
            lost = torch.ones(len(index), dtype=torch.bool).index_fill_(0, chosen, False)
            batch = {"image": images[: len(read)], "index": index[chosen], "skipped": index[lost]}
            key = None if key is None else key[chosen]
        if self.labels is not None:
            batch["label"] = self.labels[batch["index"]]
        return batch if key is None else batch | {"key": key}

    def _stand_in(self, images: Tensor, index: Tensor) -> Batch:
        batch = self._batch(images[:1].zero_(), index[:1], None, [0])
        return finished(batch, index.tolist(), counts=False)

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """Return the batch, which `__getitems__` has finished."""
        return batch


def whole_samples(
    items: list[int] | list[tuple[int, int]], read: Callable[[int, int | None], Sample], skip_errors: bool
) -> tuple[list[Sample], list[int]]:
    """Read the samples of a batch.

    Args:
        items: Indices or, in training, (index, key) pairs.
        read: From an index and a key, None outside training, to a sample.
        skip_errors: Leave out what is not a whole image, in place of raising; files that are whole and do not fit what
            is known of them are not left out.

    Returns:
        Those that could be read, and the indices of the others; of a training batch at least one.

    Raises:
        ImageFileError: A file is not a whole image, or does not fit.
    """
    samples, skipped = [], []
    for item in items:
        index, key = item if isinstance(item, tuple) else (item, None)
        try:
            samples.append(read(index, key))
        except ImageFileError as error:
            nothing_left = key is not None and len(skipped) + 1 == len(items)
            if not skip_errors or type(error) is not ImageFileError or nothing_left:
                raise
            skipped.append(index)
    return samples, skipped


def finished(batch: Batch, skipped: list[int], counts: bool = True) -> Batch:
    """Return a batch that tells what was left out of it, int64 (S,), and that nobody counts what stands in for it."""
    batch |= {"skipped": torch.tensor(skipped)} if skipped else {}
    return batch if counts else batch | {"repeated": torch.tensor(True)}
