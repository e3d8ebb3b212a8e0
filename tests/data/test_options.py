import pytest

from cnnbench.data import (
    BatchAugmentation,
    CIFAR10DataModule,
    DigitsDataModule,
    FolderAugmentation,
    ImageFolderDataModule,
)
from cnnbench.errors import UserError

WRONG = [
    (DigitsDataModule, {"batch_size": 0}, "batch_size is 0"),
    (DigitsDataModule, {"image_size": 0}, "image_size is 0"),
    (DigitsDataModule, {"num_workers": -1}, "num_workers is -1"),
    (ImageFolderDataModule, {"num_workers": -2}, "num_workers is -2"),
    (DigitsDataModule, {"in_chans": 2}, "in_chans is 2: it must be 1 or 3"),
    (DigitsDataModule, {"mean": (0.1, 0.2, 0.3)}, "mean has 3 numbers: with in_chans 1 it must have 1"),
    (DigitsDataModule, {"std": (0.0,)}, "std is"),
    (CIFAR10DataModule, {"val_size": 0}, "val_size is 0"),
    (ImageFolderDataModule, {"crop_pct": 2.5}, "crop_pct is 2.5"),
    (ImageFolderDataModule, {"val_fraction": 0.0}, "val_fraction is 0.0"),
    (ImageFolderDataModule, {"interpolation": "cubic"}, "'bicubic'"),
    (BatchAugmentation, {"crop_padding": -1}, "augmentation.crop_padding is -1"),
    (BatchAugmentation, {"hflip": 1.5}, "augmentation.hflip is 1.5: a probability is between 0 and 1"),
    (BatchAugmentation, {"rotation": 200}, "augmentation.rotation is 200"),
    (BatchAugmentation, {"scale": (1.2, 0.8)}, "augmentation.scale is"),
    (FolderAugmentation, {"scale": (0.5, 1.5)}, "augmentation.scale is"),
    (FolderAugmentation, {"random_erasing": -0.1}, "augmentation.random_erasing is -0.1"),
]


@pytest.mark.parametrize(("build", "options", "message"), WRONG)
def test_a_wrong_option_is_named(build, options, message):
    with pytest.raises(UserError) as error:
        build(**options)
    assert message in str(error.value)


def test_a_batch_larger_than_the_training_set_is_refused():
    data = DigitsDataModule(batch_size=1258)
    data.setup("fit")
    with pytest.raises(UserError, match="batch_size is 1258: the training set has 1257 images"):
        data.train_dataloader()


def test_a_validation_part_that_leaves_nothing_is_refused(cifar10):
    data = CIFAR10DataModule(root=str(cifar10[0]), val_size=100)
    with pytest.raises(UserError, match="val_size asks for 100 of 100 images"):
        data.setup("fit")
