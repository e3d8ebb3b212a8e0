"""Sets of images with masks: what is missing or does not fit is named before training."""

import shutil

import numpy as np
import pytest
from PIL import Image
from segmentation_sets import COLOURS, NAMES, SIZES, batches, folder, ids_of, save

from cnnbench.data import MaskFolderDataModule, OxfordPetsDataModule, VOCSegmentationDataModule
from cnnbench.errors import UserError


@pytest.mark.parametrize(
    ("below", "stage", "message"),
    [
        (".", "fit", "{root} has nothing to validate on: set val_fraction, the part of {root}/images to hold out, or "
         "make {root}/train and {root}/val with images and masks"),
        ("train", "fit", "{root} has nothing to validate on: set val_fraction, the part of {root}/train/images to hold "
         "out, or make {root}/val with images and masks"),
        ("val", "fit", "no {root}/train/images: a folder of data has images and masks"),
        ("train", "test", "{root} has no test set; validate evaluates on the one of validation"),
        ("elsewhere", "fit", "no {root}/images or {root}/train/images: a folder of data has images and masks"),
    ],
)  # fmt: skip
def test_a_set_that_is_not_there_is_named(tmp_path, below, stage, message):
    for kind in ("images", "masks"):
        save(tmp_path / below / kind / "1.png", ids_of(20, 20))
    with pytest.raises(UserError) as error:
        folder(tmp_path).setup(stage)
    assert str(error.value) == message.format(root=tmp_path)


def test_class_names_are_asked_for():
    with pytest.raises(UserError, match=r"^class_names is missing: .* such as --data.class_names '\[background, "):
        MaskFolderDataModule(num_workers=0)
    with pytest.raises(UserError, match=r"^class_names has 256 names: there are 255 at most$"):
        MaskFolderDataModule(class_names=tuple(map(str, range(256))), num_workers=0)


def edit(root, name, change):
    path = root / f"train/masks/{name}.png"
    save(path, change(np.asarray(Image.open(path))))


MISTAKES = {
    "id": (
        lambda root: edit(root, "one", lambda ids: ids + 3),
        "one.png has the ids 3, 4, 5: there are the classes 0 to 2, and 255 for pixels that do not count",
    ),
    "size": (
        lambda root: edit(root, "two", lambda ids: ids[:-1]),
        "two.png has 40x59 pixels, its image .*two.png has 40x60",
    ),
    "rgb": (
        lambda root: edit(root, "one", lambda ids: COLOURS[ids]),
        r"one.png is in RGB, a mask has one class id .*argmax",
    ),
    "grey": (
        lambda root: edit(root, "one", lambda ids: np.repeat(ids[..., None], 3, axis=2)),
        r"one.png is in RGB, .* mask.getchannel\(0\), since its channels are equal",
    ),
    "lossy": (
        lambda root: (
            (root / "train/masks/one.png").rename(root / "train/masks/one.jpg")
            and save(root / "train/masks/one.jpg", np.full((40, 60), 7, np.uint8))
        ),
        "one.jpg has the id.*JPEG changes ids: save masks as PNG",
    ),
    "binary": (
        lambda root: [edit(root, name, lambda ids: (ids > 0) * np.uint8(255)) for name in SIZES],
        f"no pixel is of another class than {NAMES[0]}, and 255 .* do not count; if it is {NAMES[1]} here, write 1",
    ),
    "suffix": (
        lambda root: [file.rename(file.with_stem(f"{file.stem}_mask")) for file in (root / "train/masks").iterdir()],
        r"3 images \(.*\) have no mask: add .*; 3 masks \(.*\) have no image; set mask_suffix to _mask$",
    ),
    "mask": (
        lambda root: (root / "train/masks/one.png").unlink(),
        r"^\S+/images/one.png has no mask: add \S+/train/masks/one.png$",
    ),
    "image": (lambda root: (root / "train/images/one.png").unlink(), "masks/one.png has no image"),
    "pixel": (
        lambda root: [save(root / f"train/{kind}/dot.png", np.zeros((1, 1), np.uint8)) for kind in ("images", "masks")],
        "dot.png has one pixel: there is nothing to segment",
    ),
    "damaged": (lambda root: (root / "train/masks/one.png").write_bytes(b"no"), "one.png cannot be read as an image"),
    "folder": (
        lambda root: (root / "train/masks").rename(root / "train/labels"),
        "^no .*train/masks: a folder of data has images and masks$",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_does_not_fit_is_named_before_training(pairs, name):
    change, message = MISTAKES[name]
    change(pairs)
    with pytest.raises(UserError, match=message):
        folder(pairs).setup("fit")


def test_a_mask_that_does_not_fit_is_not_skipped(pairs, pets):
    edit(pairs, "one", lambda ids: ids + 3)
    with pytest.raises(UserError, match=r"one.png has the ids 3, 4, 5"):
        folder(pairs, on_error="skip").setup("fit")
    save(pets / "oxford-iiit-pet/annotations/trimaps/Bengal_1.png", np.full((40, 60), 255, np.uint8))
    with pytest.raises(UserError, match=r"Bengal_1.png has the id 255"):
        batches(OxfordPetsDataModule(str(pets), num_workers=0, on_error="skip"), "test")


def test_each_mismatch_is_named(pairs):
    MISTAKES["id"][0](pairs)
    MISTAKES["size"][0](pairs)
    with pytest.raises(UserError, match=r"one.png has the ids .*; .*two.png has 40x59"):
        folder(pairs).setup("fit")


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_what_is_wrong_with_many_files_is_told_once(tmp_path, kind):
    for n in range(12):
        save(tmp_path / f"images/{n:02}.png", COLOURS[ids_of(20, 20)])
        save(tmp_path / f"masks/{n:02}.png", ids_of(20, 20) + np.uint8(n % 3))
    if kind == "images":
        shutil.rmtree(tmp_path / "masks")
        (tmp_path / "masks").mkdir()
        save(tmp_path / "masks/00.png", ids_of(20, 20))
    with pytest.raises(UserError) as error:
        folder(tmp_path, val_fraction=0.5).setup("fit")
    known = "there are the classes 0 to 2, and 255 for pixels that do not count"
    named = [f"{tmp_path}/{kind}/{n:02}.png" for n in ((1, 2, 3) if kind == "images" else (1, 2, 4))]
    told = {
        "masks": f"8 masks ({', '.join(named)} and 5 more) have the ids 3, 4: {known}",
        "images": f"11 images ({', '.join(named)} and 8 more) have no mask: add {tmp_path}/masks/01.png, …",
    }
    assert str(error.value) == told[kind]


def test_a_name_of_two_classes_is_refused():
    for data in (MaskFolderDataModule, VOCSegmentationDataModule):
        with pytest.raises(UserError, match="class_names has 'cat' twice: each must be another"):
            data(class_names=("cat", "dog", "cat"), num_workers=0)
