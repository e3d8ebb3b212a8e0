"""Handwritten digits that come with scikit-learn: real data, and nothing to download."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from cnnbench.data import checks
from cnnbench.data.augment import NO_AUGMENTATION, BatchAugmentation
from cnnbench.data.memory import MemoryDataModule, MemoryDataset, few_of_each, stratified_split
from cnnbench.data.pixels import resized, with_channels
from cnnbench.errors import UserError

_HELD_OUT = 270  # of 1,797: validation, and as many again for the test


class DigitsDataModule(MemoryDataModule):
    """1,797 digits of 8x8 grey pixels, split into 1,257 / 270 / 270, always the same way.

    From E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository 1998 (the part that scikit-learn has).

    Args:
        batch_size: Images a process and step.
        image_size: Height and width that images are enlarged to, once, bilinearly.
        num_workers: Processes that load images; more than 0 makes a set in memory slower.
        in_chans: 1 for grey images, 3 for RGB.
        augmentation: How training images vary; by default not at all.
        classes: The digits to tell apart, such as `[5, 6, 7, 8, 9]`, labelled from 0 in this order; None: all. The
            others are left out of every split.
        images_per_class: Training images of each class, always the same, and fewer of them among the more; None: all.
        mean: Overrides the mean of the digits.
        std: Overrides the standard deviation of the digits.
    """

    own_mean = (0.3055,)  # of the training images at the default image_size
    own_std = (0.3235,)

    def __init__(
        self,
        batch_size: int = 64,
        image_size: int = 32,
        num_workers: int = 0,
        in_chans: int = 1,
        augmentation: BatchAugmentation = NO_AUGMENTATION,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        classes: list[int] | None = None,
        images_per_class: int | None = None,
    ) -> None:
        super().__init__(batch_size, image_size, num_workers, in_chans, augmentation, mean, std)
        self.classes = list(range(10)) if classes is None else classes
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes) or not set(self.classes) <= {*range(10)}:
            raise UserError(f"classes are {self.classes}: name at least two digits, each from 0 to 9 and once")
        if images_per_class is not None:
            checks.at_least("images_per_class", images_per_class, 1)
        self.images_per_class = images_per_class
        self.class_names = tuple(map(str, self.classes))

    def setup(self, stage: str = "fit") -> None:
        """Read the digits and split them; predictions are made for the test images."""
        if self.datasets:
            return
        digits = load_digits()
        rest, test = stratified_split(digits.target, _HELD_OUT)
        train, val = stratified_split(digits.target[rest], _HELD_OUT)
        pixels = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8))  # of 0..16
        images = with_channels(resized(pixels[:, None], self.image_size), self.in_chans)
        labels = torch.full((10,), -1)
        labels[self.classes] = torch.arange(len(self.classes))
        labels = labels[digits.target]  # -1: of no class
        parts = {"train": rest[train], "val": rest[val], "test": test}
        parts = {split: part[labels[part] >= 0] for split, part in parts.items()}
        if self.images_per_class is not None:
            parts["train"] = few_of_each(parts["train"], labels, self.images_per_class, self.class_names)
        self.datasets = {split: MemoryDataset(images[part], labels[part]) for split, part in parts.items()}
        self.datasets["predict"] = self.datasets["test"]
