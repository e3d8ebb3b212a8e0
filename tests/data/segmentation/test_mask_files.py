"""Sets of images with masks: what is read is what was written, varied together, and what does not fit is named."""

import numpy as np
import pytest
import torch
from PIL import Image
from segmentation_sets import COLOURS, SIZES, ids_of, save

from cnnbench.data import (
    MaskFolderDataModule,
    OxfordPetsDataModule,
    SegmentationAugmentation,
    VOCSegmentationDataModule,
)
from cnnbench.data.segmentation import mask_files
from cnnbench.data.segmentation.mask_files import read_mask
from cnnbench.errors import UserError

NAMES = ("grey", "red", "green")


def folder(root, **options):
    options = {"class_names": NAMES, "batch_size": 3, "num_workers": 0, "image_size": 48, **options}
    return MaskFolderDataModule(str(root), **options)


def batches(data, split, stage=None):
    data.setup(stage or split)
    data.datasets["train"] = data.datasets.get("train", data.datasets[split])
    return list(getattr(data, f"{split}_dataloader")())


def nearest_colours(image):
    """The class of each pixel by its colour, and whether that is plain to see."""
    distance = (image[None].int() - torch.tensor(COLOURS)[:, :, None, None].int()).abs().amax(1)
    return distance.argmin(0), distance.amin(0) < 8


def test_evaluation_has_the_original_masks(pairs):
    (batch,) = batches(folder(pairs, resize=24), "val", "validate")
    assert batch["original_size"].tolist() == [[40, 60], [50, 50], [60, 40]]  # one, three, two
    assert batch["size"].tolist() == [[24, 36], [24, 24], [36, 24]]
    assert batch["image"].shape == (3, 3, 36, 36)
    for mask, name in zip(batch["mask"], ("one", "three", "two"), strict=True):
        width, height = SIZES[name]
        assert np.array_equal(mask[:height, :width], ids_of(width, height))
        assert (mask[height:] == 255).all()
        assert (mask[:, width:] == 255).all()
    finished = folder(pairs, resize=24)
    images = finished.on_after_batch_transfer(batch, 0)["image"]
    assert (images[0, :, 24:] == 0).all()
    assert (images[1, :, :, 24:] == 0).all()
    assert images[0, :, :24].std() > 0.1


def test_images_and_masks_vary_together_and_masks_are_not_interpolated(pairs):
    varied = SegmentationAugmentation(hflip=0.5, rotation=20, scale=(0.5, 2.0))
    data = folder(pairs, augmentation=varied)
    flips = 0
    for epoch in range(4):
        data.setup("fit")
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        (batch,) = loader
        assert batch["image"].shape == (3, 3, 48, 48)
        assert set(batch["mask"].unique().tolist()) <= {0, 1, 2, 255}
        for image, mask in zip(batch["image"], batch["mask"], strict=True):
            classes, plain = nearest_colours(image)
            counts = plain & (mask != 255)
            assert counts.float().mean() > 0.05
            assert (classes == mask)[counts].float().mean() > 0.97
            flips += int((mask[-4:, -4:] == 2).any())
    assert flips


def test_the_same_key_varies_alike(pairs):
    data = folder(pairs, augmentation=SegmentationAugmentation(rotation=20, color_jitter=0.4, scale=(0.5, 2.0)))
    data.setup("fit")
    dataset = data.datasets["train"]
    one, again, other = dataset[(0, 7)], dataset.__getitems__([(1, 3), (0, 7)]), dataset[(0, 8)]
    assert torch.equal(one.image, again["image"][1])
    assert torch.equal(one.mask, again["mask"][1])
    assert not torch.equal(one.image, other.image)


def test_pets_count_from_one(pets):
    options = {"root": str(pets), "num_workers": 0, "resize": None, "image_size": 32, "val_fraction": 0.2}
    data = OxfordPetsDataModule(batch_size=2, **options)
    (test,) = batches(data, "test")
    assert np.array_equal(test["mask"][0], ids_of(60, 40))
    data.setup("fit")
    names = [{data.index_name(split, i) for i in range(len(data.datasets[split]))} for split in ("train", "val")]
    assert [len(own) for own in names] == [8, 2]
    assert not names[0] & names[1]


def test_an_id_that_pets_do_not_have_is_refused_even_if_others_have_it(pets):
    save(pets / "oxford-iiit-pet/annotations/trimaps/Bengal_1.png", np.full((40, 60), 255, np.uint8))
    with pytest.raises(UserError, match=r"Bengal_1.png has the id 255: there are the classes 1 to 3$"):
        batches(OxfordPetsDataModule(str(pets), num_workers=0), "test")


def test_voc_has_a_palette_and_outlines_that_do_not_count(voc):
    data = VOCSegmentationDataModule(str(voc), batch_size=3, num_workers=0, image_size=32)
    (batch,) = batches(data, "val", "validate")
    expected = ids_of(60, 40)
    expected[:2] = 255
    assert np.array_equal(batch["mask"][0][:40, :60], expected)
    assert data.class_names[:2] == ("background", "aeroplane")
    assert data.num_classes == 21
    assert not data.has_test
    with pytest.raises(UserError, match="set download to true"):
        batches(VOCSegmentationDataModule(str(voc), train_sets=("2011_train",)), "train", "fit")


def test_a_part_is_held_out_and_subfolders_and_suffixes_are_matched(tmp_path):
    for n in range(5):
        save(tmp_path / f"images/a/{n}.png", COLOURS[ids_of(20, 20)])
        save(tmp_path / f"masks/a/{n}_mask.png", ids_of(20, 20))
    data = folder(tmp_path, val_fraction=0.4, mask_suffix="_mask")
    data.setup("fit")
    assert (len(data.datasets["train"]), len(data.datasets["val"])) == (3, 2)
    with pytest.raises(UserError, match="val/masks: add it, or set val_fraction"):
        folder(tmp_path, mask_suffix="_mask").setup("validate")


@pytest.mark.parametrize("below", ["", "train"])
def test_what_is_held_out_is_predicted_and_no_mask(tmp_path, below):
    for n in range(4):
        save(tmp_path / below / f"images/{n}.png", COLOURS[ids_of(20, 20)])
        save(tmp_path / below / f"masks/{n}.png", ids_of(20, 20))
    data = folder(tmp_path, val_fraction=0.5)
    names = {}
    for stage, split in (("fit", "val"), ("predict", "predict")):
        data.setup(stage)
        names[split] = [data.index_name(split, place) for place in range(len(data.datasets[split]))]
    assert names["predict"] == names["val"]
    assert len(names["val"]) == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_of_one_pixel_is_not_predicted(tmp_path, workers):
    save(tmp_path / "dot.png", np.zeros((1, 1, 3), np.uint8))
    data = folder(tmp_path, num_workers=workers)
    data.setup("predict")
    with pytest.raises(UserError, match=r"^\S*dot.png has one pixel: there is nothing to segment$"):
        list(data.predict_dataloader())


def test_each_mask_is_checked_once(tmp_path, monkeypatch):
    for n in range(4):
        save(tmp_path / f"images/{n}.png", COLOURS[ids_of(20, 20)])
        save(tmp_path / f"masks/{n}.png", ids_of(20, 20))
    read = []
    monkeypatch.setattr(mask_files, "read_mask", lambda path, *ids: read.append(path.name) or read_mask(path, *ids))
    data = folder(tmp_path, val_fraction=0.5)
    data.setup("fit")
    data.setup("validate")
    assert sorted(read) == [f"{n}.png" for n in range(4)]


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
        "has no mask; .*; set mask_suffix to _mask",
    ),
    "mask": (lambda root: (root / "train/masks/one.png").unlink(), "images/one.png has no mask"),
    "image": (lambda root: (root / "train/images/one.png").unlink(), "masks/one.png has no image"),
    "pixel": (
        lambda root: [save(root / f"train/{kind}/dot.png", np.zeros((1, 1), np.uint8)) for kind in ("images", "masks")],
        "dot.png has one pixel: there is nothing to segment",
    ),
    "damaged": (lambda root: (root / "train/masks/one.png").write_bytes(b"no"), "one.png cannot be read as an image"),
    "folder": (lambda root: (root / "train/masks").rename(root / "train/labels"), "train/masks: add it, or set val_f"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_does_not_fit_is_named_before_training(pairs, name):
    change, message = MISTAKES[name]
    change(pairs)
    with pytest.raises(UserError, match=message):
        folder(pairs).setup("fit")


def test_each_mismatch_is_named(pairs):
    MISTAKES["id"][0](pairs)
    MISTAKES["size"][0](pairs)
    with pytest.raises(UserError, match=r"one.png has the ids .*; .*two.png has 40x59"):
        folder(pairs).setup("fit")


def test_a_name_of_two_classes_is_refused():
    for data in (MaskFolderDataModule, VOCSegmentationDataModule):
        with pytest.raises(UserError, match="class_names has 'cat' twice: each must be another"):
            data(class_names=("cat", "dog", "cat"), num_workers=0)
