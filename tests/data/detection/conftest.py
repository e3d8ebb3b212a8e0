"""Tiny COCO and VOC sets in their real formats."""

import json

import pytest
from tiny_sets import IMAGES, picture, voc_xml, write_coco


@pytest.fixture
def coco(tmp_path):
    """The root of a set whose `val` has the images of its `train`."""
    return write_coco(tmp_path / "coco")


@pytest.fixture
def edit_coco(coco):
    """A function that changes what an annotation file says."""

    def edit(change, split="train"):
        file = coco / f"annotations/instances_{split}2017.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return edit


@pytest.fixture
def voc(tmp_path):
    """The root of VOC2007 with train, val and test, of the same images."""
    root = tmp_path / "voc"
    year = root / "VOCdevkit/VOC2007"
    names = [f"{id:06}" for id, *_ in IMAGES]
    for folder in ("Annotations", "ImageSets/Main"):
        (year / folder).mkdir(parents=True)
    for name, (_, width, height, objects) in zip(names, IMAGES, strict=True):
        picture(year / f"JPEGImages/{name}.jpg", width, height, [one[:5] for one in objects])
        (year / f"Annotations/{name}.xml").write_bytes(voc_xml(name, width, height, objects))
    for own in ("train", "val", "test"):
        (year / f"ImageSets/Main/{own}.txt").write_text("".join(f"{name}\n" for name in names))
    return root
