import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision.transforms.functional as F
from torchvision.transforms import InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import _apply_op

from cnnbench.data import BatchAugmentation
from cnnbench.data.draws import sample_keys, uniform
from cnnbench.data.rand_augment import OPERATIONS, rand_augment
from cnnbench.errors import UserError


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


def test_jitter_equals_torchvision_image_by_image(images, keys):
    ours = BatchAugmentation(color_jitter=0.4)(images, keys)
    changes = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation]
    orders = list(itertools.permutations(range(3)))
    seen = set()
    for image, got, draws in zip(images, ours, uniform(keys, 4, first=5).tolist(), strict=True):
        order = orders[int(6 * draws[3])]
        seen.add(order)
        expected = image
        for change in order:
            expected = changes[change](expected, 1 + 0.4 * (2 * draws[change] - 1))
        apart = (got - expected.float()).abs()  # of 255; torchvision's grey is rounded down, thrice here
        assert apart.max() <= 3
        assert apart.mean() < 0.7
    assert len(seen) == 6


def test_grey_images_jitter_in_brightness_and_contrast(keys):
    grey = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    as_grey, as_colour = (BatchAugmentation(color_jitter=0.4)(x, keys) for x in (grey, grey.expand(-1, 3, -1, -1)))
    assert (as_grey - as_colour).abs().max() <= 3  # rounded luminance
    assert (as_grey != grey).flatten(1).any(1).all()


GREY = ("Color", "Contrast")  # torchvision rounds the grey image down


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("magnitude", [4, 17, 30])
def test_each_operation_of_rand_augment_is_torchvisions(name, magnitude, images):
    """A draw in the middle of the operation's share picks it; a second one below and above a half gives its sign."""
    images = images[:8]
    images[0] = 77  # a single level
    choice = (list(OPERATIONS).index(name) + 0.5) / len(OPERATIONS)
    for sign, draw in ((-1, 0.2), (1, 0.7)):
        draws = torch.tensor([[[choice, draw]]]).expand(8, 1, 2)
        ours = rand_augment(images.float(), magnitude, draws)
        space = RandAugment()._augmentation_space(31, images.shape[-2:])
        strengths, signed = space[name]
        strength = strengths[magnitude].item() if strengths.ndim else 0.0
        strength *= sign if signed else 1
        for image, got in zip(images, ours, strict=True):
            expected = _apply_op(image, name, strength, InterpolationMode.BILINEAR, None)
            apart = (got - expected.float()).abs()
            assert apart.max() <= (2 if name in GREY else 1)
            assert apart.mean() < (0.03 if name not in GREY else 1.01 if len(image.unique()) == 1 else 0.9)


def test_every_image_gets_operations_of_its_own(images, keys):
    once, twice = (BatchAugmentation(rand_augment=n, rand_augment_magnitude=20)(images, keys) for n in (1, 2))
    draws = uniform(keys, 4, first=15).view(64, 2, 2)
    names = list(OPERATIONS)
    first = [names[int(draw * len(names))] for draw in draws[:, 0, 0].tolist()]
    assert len(set(first)) > 8
    for position in range(64):
        one = slice(position, position + 1)
        assert torch.equal(once[one], rand_augment(images[one].float(), 20, draws[one, :1]))
        assert torch.equal(twice[one], rand_augment(once[one], 20, draws[one, 1:]))


def test_erased_rectangles_have_the_papers_sizes_and_the_images_noise():
    images = torch.zeros(4000, 2, 30, 40, dtype=torch.uint8)
    keys = sample_keys(0, 0, torch.arange(4000))
    out = BatchAugmentation(random_erasing=0.4)(images, keys, mean=(0.5, 0.6), std=(0.1, 0.05))
    erased = out[:, 0] > 0
    chosen = erased.flatten(1).any(1)
    assert chosen.float().mean() == pytest.approx(0.4, abs=0.03)
    for mask in erased[chosen][:200]:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        height, width = (len(places) for places in (rows, columns))
        assert mask.sum() == height * width == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert 0.01 < height * width / 1200 < 0.36
    areas = erased[chosen].flatten(1).float().mean(1)
    assert areas.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.015)
    for channel, mean, std in ((0, 0.5, 0.1), (1, 0.6, 0.05)):
        pixels = out[:, channel][erased] / 255
        assert pixels.mean() == pytest.approx(mean, abs=1e-3)
        assert pixels.std() == pytest.approx(std, rel=0.02)
    assert erased[chosen].any(0).all()  # every place is reached


ALL = {"crop_padding": 2, "hflip": 0.5, "rotation": 10, "color_jitter": 0.4, "rand_augment": 2, "random_erasing": 0.5}


@pytest.mark.parametrize(
    "options", [{"crop_padding": 4, "hflip": 0.5}, {"rotation": 10, "scale": (0.9, 1.1)}, {"color_jitter": 0.3}, ALL]
)
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


@pytest.mark.parametrize(
    ("field", "value"), [("rand_augment", -1), ("rand_augment_magnitude", 31), ("color_jitter", 2)]
)
def test_what_no_image_can_get_is_refused(field, value):
    with pytest.raises(UserError, match=f"augmentation.{field} is {value}"):
        BatchAugmentation(**{field: value})


def test_threads_do_not_disturb_each_other():
    augment, keys = BatchAugmentation(crop_padding=4, hflip=0.5), sample_keys(0, 0, torch.arange(64))
    batches = [torch.full((64, 3, 32, 32), level, dtype=torch.uint8) for level in (50, 100, 150, 200)]
    alone = [augment(batch, keys) for batch in batches]

    def is_same(place):
        return all(torch.equal(augment(batches[place], keys), alone[place]) for _ in range(200))

    with ThreadPoolExecutor(len(batches)) as threads:
        assert all(threads.map(is_same, range(len(batches))))
