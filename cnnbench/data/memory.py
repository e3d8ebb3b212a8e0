"""Sets that fit in memory: a batch is one index operation, and everything else happens on the device."""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import Dataset

from cnnbench.data import checks
from cnnbench.data.augment import BatchAugmentation
from cnnbench.data.base import Batch, ImageDataModule
from cnnbench.data.pixels import channel_statistics
from cnnbench.data.samplers import index_and_key
from cnnbench.errors import UserError

_SPLIT_SEED = 0  # splits never follow the run's seed: runs of several seeds share one test set


class MemoryDataset(Dataset):
    """Images and labels as two tensors.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: int | tuple[int, int]) -> Batch:
        """Return one sample, by its index or, in training, (index, key)."""
        return {name: value[0] for name, value in self.__getitems__([item]).items()}

    def __getitems__(self, items: list[int] | list[tuple[int, int]]) -> Batch:
        """Return the finished batch of these indices or, in training, (index, key) pairs."""
        index, key = index_and_key(items)
        images = self.images.index_select(0, index)  # copies whole images: 4 times as fast as images[index]
        batch = {"image": images, "label": self.labels.index_select(0, index), "index": index}
        return batch if key is None else batch | {"key": key}

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """Return the batch, which `__getitems__` has finished."""
        return batch


class MemoryDataModule(ImageDataModule):
    """A set in memory: subclasses say in `setup` what their splits are.

    Args:
        batch_size: Images a process and step.
        image_size: Height and width that images are brought to, once.
        num_workers: Processes that load images.
        in_chans: 1 for grey images, 3 for RGB.
        augmentation: How training images vary.
        mean: Overrides the set's own.
        std: Overrides the set's own.
    """

    own_mean: tuple[float, ...]
    own_std: tuple[float, ...]

    def __init__(
        self,
        batch_size: int,
        image_size: int,
        num_workers: int,
        in_chans: int,
        augmentation: BatchAugmentation,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
    ) -> None:
        super().__init__(batch_size, image_size, num_workers, in_chans)
        checks.per_channel("mean", mean, in_chans)
        checks.per_channel("std", std, in_chans, positive=True)
        self.augmentation = augmentation
        self.mean = tuple(mean or channel_statistics(self.own_mean, in_chans))
        self.std = tuple(std or channel_statistics(self.own_std, in_chans))

    def augmented(self, images: Tensor, keys: Tensor) -> Tensor:
        """Return uint8 training images (B, C, H, W) as `augmentation` varies them."""
        return self.augmentation(images, keys, self.mean, self.std)


def stratified_split(labels: np.ndarray, size: int, name: str = "val_size") -> tuple[np.ndarray, np.ndarray]:
    """Split a set into two parts with the classes in equal proportion, the same two every time.

    Args:
        labels: (N,).
        size: Samples of the second part.
        name: The user's name for `size`, for the message of an error.

    Returns:
        The indices of the first part and of the second, each ascending.

    Raises:
        UserError: The set is too small for it.
    """
    try:
        parts = train_test_split(
            np.arange(len(labels)), test_size=size, stratify=labels, random_state=_SPLIT_SEED, shuffle=True
        )
    except ValueError as error:
        raise UserError(
            f"{name} asks for {size} of {len(labels)} images: no stratified split into these parts ({error})"
        ) from error
    return tuple(np.sort(part) for part in parts)


def few_of_each(
    indices: np.ndarray, labels: Tensor, count: int, class_names: Sequence[str], name: str = "images_per_class"
) -> np.ndarray:
    """Choose some samples of each class, the same every time, and among a larger `count` also those of a smaller one.

    Args:
        indices: Of the samples to choose from.
        labels: int64 (N,), of all samples.
        count: Samples a class.
        class_names: In the order of the labels.
        name: The user's name for `count`, for the message of an error.

    Returns:
        The indices of the chosen, ascending.

    Raises:
        UserError: A class has fewer.
    """
    shuffled = np.random.default_rng(_SPLIT_SEED).permutation(indices)
    chosen = []
    for label, class_name in enumerate(class_names):
        of_class = shuffled[labels[shuffled].numpy() == label]
        if len(of_class) < count:
            raise UserError(f"{name} is {count}: class {class_name!r} has {len(of_class)} training images")
        chosen.append(of_class[:count])
    return np.sort(np.concatenate(chosen))
