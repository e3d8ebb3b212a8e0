"""Tiny sets of images with masks, in their real formats."""

import pytest
from segmentation_sets import COLOURS, SIZES, ids_of, save


@pytest.fixture
def pairs(tmp_path):
    """A root with train and val, three images and masks each; each class is of one colour."""
    for split in ("train", "val"):
        for name, size in SIZES.items():
            ids = ids_of(*size)
            save(tmp_path / split / f"images/{name}.png", COLOURS[ids])
            save(tmp_path / split / f"masks/{name}.png", ids)
    return tmp_path


@pytest.fixture
def pets(tmp_path):
    """The root of a Pets set of ten images to train and validate on, and two to test."""
    folder = tmp_path / "oxford-iiit-pet"
    names = {"trainval": [f"Abyssinian_{n}" for n in range(10)], "test": ["Bengal_1", "Bengal_2"]}
    for split, own in names.items():
        for name in own:
            ids = ids_of(60, 40)
            save(folder / f"images/{name}.jpg", COLOURS[ids])
            save(folder / f"annotations/trimaps/{name}.png", ids + 1)
        (folder / f"annotations/{split}.txt").write_text("".join(f"{name} 1 1 1\n" for name in own))
    return tmp_path


@pytest.fixture
def voc(tmp_path):
    """The root of VOC2012 with train and val, its masks with a palette and outlines that do not count."""
    year = tmp_path / "VOCdevkit/VOC2012"
    for name, size in SIZES.items():
        ids = ids_of(*size)
        save(year / f"JPEGImages/{name}.jpg", COLOURS[ids])
        ids[:2] = 255
        save(year / f"SegmentationClass/{name}.png", ids, mode="P")
    for split in ("train", "val"):
        (year / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
        (year / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{name}\n" for name in SIZES))
    return tmp_path
