"""Folders of images with a folder a class: what is found, and what reaches a batch."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from cnnbench.data import FolderAugmentation, ImageFolderDataModule
from cnnbench.errors import UserError


def folder(root, stage="fit", **options):
    options = {"image_size": 32, "batch_size": 4, "num_workers": 0} | options
    data = ImageFolderDataModule(str(root), **options)
    data.setup(stage)
    return data


def finished(data, loader):
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def test_classes_labels_and_paths_belong_together(photos):
    data = folder(photos)
    assert (data.num_classes, data.class_names, data.in_chans) == (2, ("cat", "dog"), 3)
    for split, loader, n in (("train", data.train_dataloader(), 12), ("val", data.val_dataloader(), 6)):
        pairs = [pair for b in loader for pair in zip(b["index"].tolist(), b["label"].tolist(), strict=True)]
        assert len({index for index, _ in pairs}) == n
        for index, label in pairs:
            assert f"{photos}/{split}/{data.class_names[label]}/" in data.index_name(split, index)


@pytest.mark.parametrize(
    ("interpolation", "crop_pct", "in_chans"),
    [("bicubic", 0.875, 3), ("bilinear", 0.95, 3), ("bicubic", 1.0, 1)],
)
def test_evaluation_is_timms(photos, interpolation, crop_pct, in_chans):
    data = folder(photos, interpolation=interpolation, crop_pct=crop_pct, in_chans=in_chans, decoder="pil")
    theirs = create_transform(
        (in_chans, 32, 32), interpolation=interpolation, crop_pct=crop_pct, mean=data.mean, std=data.std
    )
    for batch in finished(data, data.val_dataloader()):
        for index, image in zip(batch["index"], batch["image"], strict=True):
            picture = Image.open(data.index_name("val", index)).convert("RGB" if in_chans == 3 else "L")
            torch.testing.assert_close(image, theirs(picture), atol=1e-6, rtol=1e-5)


def test_normalisation_and_crop_come_from_the_model_unless_given(photos):
    config = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.3, 0.4), "interpolation": "bicubic", "crop_pct": 0.9}
    data = ImageFolderDataModule(str(photos), std=(0.1, 0.1, 0.1))
    assert (data.mean, data.crop_pct) == ((0.485, 0.456, 0.406), 0.875)
    data.trainer = SimpleNamespace(lightning_module=SimpleNamespace(pretrained_cfg=config))
    data.setup("fit")
    assert (data.mean, data.std) == ((0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
    assert (data.interpolation, data.crop_pct) == ("bicubic", 0.9)
    assert data.datasets["val"].view.crop_pct == 0.9


def test_train_crops_lie_where_they_are_drawn(tmp_path):
    """A picture whose colours are its coordinates: each crop must be a flat, uncut part of it."""
    x, y = np.meshgrid(np.linspace(0, 255, 400), np.linspace(0, 255, 300))
    picture = Image.fromarray(np.stack([x, y, x * 0 + 128], -1).astype(np.uint8))
    for split in ("train", "val"):
        (tmp_path / split / "ramp").mkdir(parents=True)
    picture.save(tmp_path / "val/ramp/0.png")
    for i in range(200):
        picture.save(
            tmp_path / "train/ramp" / f"{i:03}.{'jpg' if i % 2 else 'png'}",
            **({"quality": 95} if i % 2 else {}),
        )
    data = folder(tmp_path, batch_size=200, augmentation=FolderAugmentation(hflip=0.25))
    (batch,) = data.train_dataloader()
    image = batch["image"].float()
    width = (image[:, 0, :, -1] - image[:, 0, :, 0]).mean(1) / 255 * 400 * 32 / 31
    height = (image[:, 1, -1] - image[:, 1, 0]).mean(1) / 255 * 300 * 32 / 31
    flipped = width < 0
    area, ratio = width.abs() * height / 120_000, width.abs() / height
    assert flipped.float().mean() == pytest.approx(0.25, abs=0.1)
    assert area.min() > 0.06
    assert area.max() < 1.05
    assert ratio.min() > 0.70
    assert ratio.max() < 1.42
    left = torch.where(flipped, image[:, 0, :, -1].mean(1), image[:, 0, :, 0].mean(1))
    assert left.min() < 10  # crops reach the left border
    assert image[:, 2].sub(128).abs().max() <= 3


def test_a_stratified_part_of_train_validates_on_request(photos):
    shutil.rmtree(photos / "val")
    data = folder(photos, val_fraction=0.34)
    names = {s: [data.index_name(s, i) for i in range(len(data.datasets[s]))] for s in ("train", "val")}
    assert sorted(names["train"] + names["val"]) == sorted(map(str, photos.glob("train/*/*")))
    assert [sum(f"/{c}/" in name for name in names["val"]) for c in ("cat", "dog")] == [2, 2]
    assert not isinstance(data.datasets["val"].view, type(data.datasets["train"].view))
    again = folder(photos, "validate", val_fraction=0.34)
    assert [again.index_name("val", i) for i in range(4)] == names["val"]


def test_predicts_any_images_below_a_folder(photos, tmp_path, write_photo):
    for name in ("b.jpg", "deep/er/a.PNG"):
        write_photo(tmp_path / "new" / name)
    (tmp_path / "new/notes.txt").write_text("not an image")
    data = folder(tmp_path / "no-such-root", "predict", predict_root=str(tmp_path / "new"))
    (batch,) = finished(data, data.predict_dataloader())
    assert set(batch) == {"image", "index"}
    assert [data.index_name("predict", i) for i in batch["index"]] == [
        str(tmp_path / "new/b.jpg"),
        str(tmp_path / "new/deep/er/a.PNG"),
    ]
    without = folder(photos, "predict")
    assert "/val/" in without.index_name("predict", 0)


@pytest.mark.parametrize("harm", ["truncated", "text", "empty"])
def test_a_broken_image_is_one_line_that_names_it(photos, harm):
    file = photos / "train/dog/3.jpg"
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"hello", "empty": b""}[harm])
    with pytest.raises(UserError) as error:
        list(folder(photos).train_dataloader())
    assert str(error.value).startswith(f"{file} cannot be read as an image: ")
    assert "\n" not in str(error.value)


def test_a_place_without_images_to_predict_is_named(photos):
    file = photos / "val/dog/1.jpg"
    for place, said in ((photos / "no", "is not a folder"), (file, "is a file: give its folder")):
        with pytest.raises(UserError, match=rf"^nothing to predict: {place} {said}$"):
            folder(place, "predict", class_names=("cat", "dog"))
        with pytest.raises(UserError, match=rf"^nothing to predict: {place} {said}$"):
            folder(photos, "predict", predict_root=str(place))


def missing_root(root):
    return root / "typo", {}, ["typo/train", "typo is not a folder"]


def missing_val(root):
    (root / "val").rename(root / "valid")
    return root, {}, ["no folder", f"{root}/val", "val_fraction"]


def val_fraction_beside_val(root):
    return root, {"val_fraction": 0.2}, ["val_fraction", f"{root}/val"]


def no_classes(root):
    (root / "train").rename(root / "old")
    (root / "train").mkdir()
    return root, {}, [f"no class folders in {root}/train"]


def empty_class(root):
    (root / "train/emu").mkdir()
    return root, {}, [f"no images below {root}/train/emu", ".jpg"]


def unknown_class_in_val(root):
    (root / "val/dog").rename(root / "val/dogs")
    return root, {}, ["val/dogs", "train lacks", "did you mean 'dog'"]


def unknown_policy(root):
    return (
        root,
        {"augmentation": FolderAugmentation(auto_augment="randd-m9")},
        ["randd-m9", "rand-m9-mstd0.5-inc1"],
    )


def test_a_class_of_test_that_train_lacks(photos, write_photo):
    write_photo(photos / "test/cow/0.png")
    with pytest.raises(UserError, match=r"test/cow is a class that .*train lacks"):
        folder(photos, "test")


CASES = [
    missing_root,
    missing_val,
    val_fraction_beside_val,
    no_classes,
    empty_class,
    unknown_class_in_val,
    unknown_policy,
]


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_folder_is_named(photos, case):
    root, options, parts = case(photos)
    with pytest.raises(UserError) as error:
        folder(root, **options)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_class_without_images_to_evaluate_on_is_told(photos, capsys):
    shutil.rmtree(photos / "val/dog")
    data = folder(photos)
    assert capsys.readouterr().err == f"{photos}/val has no images of dog\n"
    assert set(data.datasets["val"].labels.tolist()) == {0}
