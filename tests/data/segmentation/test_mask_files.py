"""Sets of images with masks: what is read is what was written, varied together, and what does not fit is named."""

import shutil

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from segmentation_sets import COLOURS, SIZES, batches, folder, ids_of, save

from cnnbench.data import (
    OxfordPetsDataModule,
    SegmentationAugmentation,
    VOCSegmentationDataModule,
)
from cnnbench.data.base import counted
from cnnbench.data.segmentation import mask_files
from cnnbench.data.segmentation.mask_files import read_mask
from cnnbench.errors import UserError


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
    with pytest.raises(UserError, match=r"has nothing to validate on: set val_fraction, the part of .*/images to hold"):
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


class Predicts(pl.LightningModule):
    """Notes the images that count."""

    def predict_step(self, batch):
        assert "skipped" not in batch
        return batch["index"][counted(batch)].tolist()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_what_cannot_be_read_is_not_predicted_on_request_counted_and_listed(tmp_path, capsys, batch_size, workers):
    for n in range(4):
        save(tmp_path / f"{n}.png", COLOURS[ids_of(20, 20)])
    for n, content in ((1, b"no"), (2, (tmp_path / "2.png").read_bytes()[:60])):
        (tmp_path / f"{n}.png").write_bytes(content)
    data = folder(tmp_path, on_error="skip", batch_size=batch_size, num_workers=workers)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    indices = pl.Trainer(accelerator="cpu", **quiet).predict(Predicts(), data)
    assert [index for batch in indices for index in batch] == [0, 3]
    lines = capsys.readouterr().err.splitlines()
    at = lines.index("skipped (2):")
    assert [line.partition(" cannot be read as an image: ")[0] for line in lines[at + 1 : at + 3]] == [
        f"  {tmp_path}/{n}.png" for n in (1, 2)
    ]


def test_pairs_that_cannot_be_read_are_left_out_of_training_on_request(pairs, capsys):
    (pairs / "train/images/one.png").write_bytes(b"no")
    (pairs / "val/masks/two.png").write_bytes(b"no")
    data = folder(pairs, on_error="skip")
    data.setup("fit")
    for split, left_out in (("train", "one"), ("val", "two")):
        names = [data.file_name(split, place) for place in range(len(data.datasets[split]))]
        assert names == [f"{name}.png" for name in sorted(SIZES) if name != left_out]
    data.teardown("fit")
    listed = capsys.readouterr().err
    assert listed.startswith("skipped (2):\n")
    assert f"{pairs}/train/images/one.png cannot be read" in listed
    assert f"{pairs}/val/masks/two.png cannot be read" in listed


def predicted(root, **options):
    data = folder(root, **options)
    data.setup("predict")
    files = [data.index_name("predict", place) for place in range(len(data.datasets["predict"]))]
    return [file.removeprefix(f"{root}/") for file in files]


def test_images_are_predicted_that_have_no_masks(tmp_path):
    """Of the root itself, then of `val`, then of `test`, and never the masks."""
    for part, masks in (("", True), ("val/", False), ("test/", False)):
        save(tmp_path / f"{part}images/sub/1.png", COLOURS[ids_of(20, 20)])
        if masks:
            save(tmp_path / "masks/sub/2.png", ids_of(20, 20))  # of another image
        assert predicted(tmp_path) == [f"{part}images/sub/1.png"]


def test_images_to_train_on_are_predicted_where_they_are_named(pairs):
    shutil.rmtree(pairs / "val")
    with pytest.raises(UserError, match=r"^nothing to predict: .*; set predict_root to .*, such as \S+/train/images$"):
        predicted(pairs)
    assert len(predicted(pairs, predict_root=str(pairs / "train/images"))) == 3
