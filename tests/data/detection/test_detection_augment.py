"""Boxes and masks stay on their objects, whatever happens to the image."""

import math

import pytest
import torch
from torchvision.ops import masks_to_boxes

from cnnbench.data import DetectionAugmentation
from cnnbench.data.detection.augment import Augmenter
from cnnbench.data.detection.fit import Fit
from cnnbench.data.detection.items import item_of
from cnnbench.data.draws import sample_keys
from cnnbench.errors import UserError

KEYS = sample_keys(0, 0, torch.arange(16)).tolist()
SIDE = 96


def colour(label):
    """One of twelve on a circle: no blend of one with black or with another is a third."""
    angle = label * math.pi / 6
    return torch.tensor([128 + 110 * math.cos(angle), 128 + 110 * math.sin(angle), 255]).round()


def solid(first):
    """An image of three solid boxes of colours of their own, which their labels tell."""
    boxes = torch.tensor([[4.0, 6, 44, 40], [60, 10, 100, 70], [20, 50, 50, 76]])
    image = torch.zeros(3, 80, 120, dtype=torch.uint8)
    masks = torch.zeros(3, 80, 120, dtype=torch.bool)
    labels = torch.arange(3) + first
    for mask, label, (x1, y1, x2, y2) in zip(masks, labels.tolist(), boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
        image[:, mask] = colour(label).byte()[:, None]
    return item_of(image, boxes, labels, labels == first, masks=masks)


def varied(key, **options):
    others = iter([solid(3), solid(6), solid(9)])
    augmentation = DetectionAugmentation(**({"hflip": 0.0} | options))
    return Augmenter(augmentation, Fit(SIDE, SIDE, (SIDE, SIDE)), (0.0,) * 3)(solid(0), lambda: next(others), key)


ALONE = [
    {"hflip": 1.0},
    {"zoom_out": 1.0},
    {"iou_crop": 1.0},
    {"scale": (0.5, 2.0)},
    {"mosaic": 1.0},
    {"mosaic": 1.0, "zoom_out": 0.5, "iou_crop": 0.5, "hflip": 0.5, "scale": (0.5, 1.5)},
]


@pytest.mark.parametrize("options", ALONE, ids=lambda options: "-".join(options))
def test_each_box_is_where_its_colour_is(options):
    """The colours of the solid boxes find each object in the image again, without its box or its mask."""
    changed, objects = 0, 0
    pixels = 2.0 if len(options) == 1 else 3.0  # resampled once, or more often
    for key in KEYS:
        item = varied(key, **options)
        height, width = item["image"].shape[1:]
        assert max(height, width) <= SIDE
        assert item["boxes"].canvas_size == (height, width)
        changed += item["boxes"].shape != (3, 4) or not torch.equal(item["boxes"], varied(key)["boxes"])
        for box, label, mask, crowd in zip(*(item[k] for k in ("boxes", "labels", "masks", "crowd")), strict=True):
            objects += 1
            x1, y1, x2, y2 = box.tolist()
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert crowd == (label % 3 == 0)
            if min(x2 - x1, y2 - y1) < 4:
                continue  # too few pixels keep their colour
            seen = ((item["image"] - colour(label.item())[:, None, None]).abs() < 8).all(0)
            found = masks_to_boxes(seen[None])[0] + torch.tensor([0, 0, 1, 1])
            torch.testing.assert_close(box.as_subclass(torch.Tensor), found, atol=pixels, rtol=0)
            of_mask = masks_to_boxes(mask[None])[0] + torch.tensor([0, 0, 1, 1])
            torch.testing.assert_close(box.as_subclass(torch.Tensor), of_mask, atol=pixels, rtol=0)
    assert changed > 0.5 * len(KEYS)
    assert objects > len(KEYS)


def test_a_flip_is_one():
    plain, flipped = varied(1), varied(1, hflip=1.0)
    assert torch.equal(flipped["image"], plain["image"].flip(-1))
    width = plain["image"].shape[-1]
    assert torch.equal(flipped["boxes"][:, [0, 2]], width - plain["boxes"][:, [2, 0]])
    assert (
        flipped["masks"] != plain["masks"].flip(-1)
    ).float().mean() < 0.01  # the nearest pixel is one or its neighbour


def test_colours_change_and_nothing_else():
    plain, coloured = varied(1), varied(1, color_jitter=0.5)
    assert not torch.equal(plain["image"], coloured["image"])
    assert torch.equal(plain["boxes"], coloured["boxes"])


def test_mosaics_show_all_four():
    labels = torch.cat([varied(key, mosaic=1.0)["labels"] for key in KEYS[:10]])
    assert set(labels.tolist()) == set(range(12))


def test_a_key_decides_all():
    options = {**ALONE[-1], "color_jitter": 0.5}
    before = torch.get_rng_state()
    first, again, other = varied(KEYS[0], **options), varied(KEYS[0], **options), varied(KEYS[1], **options)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["image"].shape != other["image"].shape or not torch.equal(first["image"], other["image"])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (3, 200), (500, 2)])
def test_images_of_any_shape_without_objects_are_varied(height, width):
    image = torch.full((3, height, width), 9, dtype=torch.uint8)
    nothing = item_of(image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
    every = DetectionAugmentation(mosaic=0.5, color_jitter=0.3, zoom_out=0.5, iou_crop=1.0, scale=(0.5, 1.5))
    augmenter = Augmenter(every, Fit(32, 64), (0.5,) * 3)
    for key in KEYS[:8]:
        item = augmenter(nothing, lambda: nothing, key)
        assert item["boxes"].shape == (0, 4)
        assert 1 <= min(item["image"].shape[1:]) <= max(item["image"].shape[1:]) <= 64


def test_an_object_of_which_little_is_left_goes_and_a_box_beyond_the_edge_is_cut():
    boxes = torch.tensor([[-3.0, 10, 20, 104], [50, 50, 70, 70]])
    image = torch.zeros(3, 100, 100, dtype=torch.uint8)
    item = item_of(image, boxes, torch.tensor([1, 2]), torch.tensor([False, False]))
    keep = Augmenter(DetectionAugmentation(hflip=0.0), Fit(100, 100), (0.0,) * 3)(item, lambda: item, 0)
    assert keep["boxes"].tolist() == [[0, 10, 20, 100], [50, 50, 70, 70]]
    for key in KEYS:
        double = Augmenter(DetectionAugmentation(hflip=0.0, scale=(2.0, 2.0)), Fit(100, 100), (0.0,) * 3)
        part = double(item, lambda: item, key)
        areas = (part["boxes"][:, 2:] - part["boxes"][:, :2]).prod(1)
        assert (areas >= 0.25 * torch.tensor([0, 23 * 94 * 4, 1600])[part["labels"]]).all()


@pytest.mark.parametrize(("name", "value"), [("mosaic", 1.5), ("hflip", -1), ("scale", (2, 1)), ("iou_crop", 7)])
def test_wrong_settings_are_named(name, value):
    with pytest.raises(UserError, match=rf"augmentation\.{name} is"):
        DetectionAugmentation(**{name: value})
