import math

import pytest
import torch
import torchvision.transforms.functional as F
from torchvision.transforms import InterpolationMode

from cnnbench.data import BatchAugmentation
from cnnbench.data.draws import sample_keys, uniform


@pytest.fixture
def images():
    return torch.randint(0, 256, (64, 3, 12, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def keys():
    return sample_keys(seed=1, epoch=2, index=torch.arange(64))


@pytest.mark.parametrize(("padding", "hflip"), [(0, 0.5), (3, 0.0), (4, 0.5), (2, 1.0)])
def test_crop_and_flip_equal_torchvision_image_by_image(images, keys, padding, hflip):
    ours = BatchAugmentation(crop_padding=padding, hflip=hflip)(images, keys)

    shifts = 2 * padding + 1
    for image, got, draws in zip(images, ours, uniform(keys, 5).tolist(), strict=True):
        top, left = int(draws[0] * shifts), int(draws[1] * shifts)
        expected = F.crop(F.pad(image, [padding]), top, left, 12, 16)
        expected = F.hflip(expected) if draws[2] < hflip else expected
        assert torch.equal(got, expected)
    assert ours.dtype == torch.uint8


def test_all_shifts_and_both_orientations_occur_equally_often():
    images = torch.zeros(20_000, 1, 5, 5, dtype=torch.uint8)
    images[:, :, 2, 2] = 1
    images[:, :, 2, 3] = 2  # to the right of the 1, unless flipped
    out = BatchAugmentation(crop_padding=1, hflip=0.3)(images, sample_keys(0, 0, torch.arange(20_000)))
    places, counts = (out == 1).flatten(1).float().argmax(1).unique(return_counts=True)
    flipped = (out == 2).flatten(1).float().argmax(1) < (out == 1).flatten(1).float().argmax(1)
    assert len(places) == 9
    assert (counts - 20_000 / 9).abs().max() < 4 * math.sqrt(20_000 / 9)
    assert flipped.float().mean() == pytest.approx(0.3, abs=0.015)


def test_rotation_and_scale_equal_torchvision_image_by_image(images, keys):
    ours = BatchAugmentation(rotation=15, scale=(0.8, 1.25))(images, keys)

    for image, got, draws in zip(images, ours, uniform(keys, 5).tolist(), strict=True):
        angle, scale = (2 * draws[3] - 1) * 15, 0.8 + 0.45 * draws[4]
        expected = F.affine(image.float(), -angle, [0, 0], scale, [0.0], InterpolationMode.BILINEAR)
        torch.testing.assert_close(got, expected, atol=2e-2, rtol=0)


@pytest.mark.parametrize("options", [{"crop_padding": 4, "hflip": 0.5}, {"rotation": 10, "scale": (0.9, 1.1)}])
def test_an_image_varies_alike_in_any_batch(images, keys, options):
    augmentation = BatchAugmentation(**options)
    together = augmentation(images, keys)
    for size in (1, 7, 33):
        parts = zip(images.split(size), keys.split(size), strict=True)
        assert torch.equal(torch.cat([augmentation(*part) for part in parts]), together)


def test_one_option_does_not_change_anothers_draws(images, keys):
    flipped = BatchAugmentation(hflip=0.5)(images, keys)
    shifted = BatchAugmentation(crop_padding=2)(images, keys)
    both = BatchAugmentation(crop_padding=2, hflip=0.5)(images, keys)
    which = (flipped != images).flatten(1).any(1)
    assert torch.equal(both[~which], shifted[~which])
    assert torch.equal(both[which], shifted[which].flip(-1))
