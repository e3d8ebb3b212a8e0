"""Segmentation by the command line: train, test, predict, train on, in one process and in two; bad input."""

import csv
import re

import numpy as np
import pytest
import torch
from forked import run_forked
from lightning.pytorch.loops.prediction_loop import _PredictionLoop
from PIL import Image

from cnnbench.data import MaskFolderDataModule

TINY = (
    *("--model.model_args", "{widths: [4, 4, 8], deep_supervision: 1}"),
    *("--data.image_size", 48, "--data.object_size", "[12, 24]"),
    *("--data.objects", "[1, 3]", "--data.batch_size", 4, "--model.optim.base_batch_size", 4),
    *("--model.optim.warmup_epochs", 1),  # so that the first epoch does not depend on how many follow
    *("--data.train_scenes", 16, "--data.val_scenes", 5, "--data.test_scenes", 7, "--trainer.log_every_n_steps", 1),
    *("--trainer.precision", "32-true"),  # which a checkpoint alone is evaluated in
)


@pytest.fixture(scope="module")
def recipe(configs):
    return ("--config", configs / "segmentation/unet_digits.yaml", *TINY)


@pytest.fixture(scope="module")
def run(commands, tmp_path_factory):
    return commands(tmp_path_factory.mktemp("segmentation"))


@pytest.fixture(scope="module")
def fitted(run, recipe):
    return run("fit", *recipe, "--trainer.max_epochs", 2)


def test_fit_logs_each_loss_and_their_sum(fitted):
    rows = [row for row in fitted.metrics if "train/loss" in row]
    assert len(rows) == 8
    for row in rows:
        parts = [row[f"train/loss_{name}"] for name in ("cross_entropy", "dice", "aux")]
        assert row["train/loss"] == pytest.approx(sum(parts), rel=1e-5)
    for row in fitted.metrics:
        if "val/miou" in row:
            assert 0 <= row["val/miou"] <= row["val/dice"] <= 1
            assert 0 < row["val/iou_per_class/background"] <= 1


def test_a_run_that_goes_on_is_the_run_that_went_through(fitted, run, recipe):
    first = run("fit", *recipe, "--trainer.max_epochs", 1)
    run("fit", *recipe, "--trainer.max_epochs", 2, "--ckpt_path", first.directory / "checkpoints/last.ckpt")
    whole, resumed = (
        torch.load(of.directory / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for of in (fitted, first)
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert fitted.curve("train/loss") == first.curve("train/loss")


def test_a_checkpoint_alone_is_tested_as_it_was_validated(fitted, run):
    tested = run("validate", "--ckpt_path", fitted.best)
    assert tested.curve("val/miou") == [max(fitted.curve("val/miou"))]
    assert {"test/miou", "test/dice", "test/pixel_accuracy"} <= run("test", "--ckpt_path", fitted.best).metrics[
        0
    ].keys()


def test_a_checkpoint_alone_predicts_a_folder_of_images(fitted, run, write_photo, tmp_path):
    """Whole and by tiles that see as far as the network does: the masks have the images' size, and VOC's palette."""
    write_photo(tmp_path / "images/wide.jpg", 90, 41)
    write_photo(tmp_path / "images/below/tall.png", 30, 70)
    words = ("predict", "--ckpt_path", fitted.best, "--data.root", tmp_path / "images")
    whole, tiled = (run(*words, *more).directory for more in ((), ("--model.tile", 64, "--model.overlap", 32)))
    masks = [Image.open(whole / f"masks/{name}.png") for name in ("wide", "below/tall")]
    assert [(mask.mode, mask.size) for mask in masks] == [("P", (90, 41)), ("P", (30, 70))]
    assert masks[0].getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    assert all(np.asarray(mask).max() <= 10 for mask in masks)
    pictures = [Image.open(whole / f"pictures/{name}.jpg") for name in ("wide", "below/tall")]
    assert [picture.size for picture in pictures] == [(90, 41), (30, 70)]
    for mask, name in zip(masks, ("wide", "below/tall"), strict=True):
        assert (np.asarray(mask) == np.asarray(Image.open(tiled / f"masks/{name}.png"))).mean() > 0.99
    with (whole / "classes.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["background", *"0123456789"]


def test_predicted_masks_are_written_and_not_kept(fitted, run, monkeypatch):
    kept = []
    monkeypatch.setattr(_PredictionLoop, "on_run_end", lambda loop: kept.append(loop.predictions))
    predicted = run("predict", "--ckpt_path", fitted.best, "--pictures", 0)
    assert kept == [[]]
    assert len(list((predicted.directory / "masks").iterdir())) == 7


def test_predicted_masks_are_read_with_their_images(fitted, run, write_photo, tmp_path):
    for name in ("rgb.jpg", "sub/rgb.jpg"):
        write_photo(tmp_path / "images" / name, 40, 40)
    (tmp_path / "masks").mkdir()
    Image.new("L", (40, 40)).save(tmp_path / "masks/rgb.png")  # of one of them alone
    predicted = run("predict", "--ckpt_path", fitted.best, "--data.root", tmp_path, "--pictures", 1)
    assert re.search(rf"^images +2 below {tmp_path}/images$", predicted.out, re.MULTILINE)
    assert [path.name for path in (predicted.directory / "pictures").iterdir()] == ["rgb.jpg"]
    (predicted.directory / "images").symlink_to(tmp_path / "images")
    names = ("background", *"0123456789")
    data = MaskFolderDataModule(str(predicted.directory), class_names=names, num_workers=0, val_fraction=0.5)
    data.setup("fit")
    assert [data.file_name(split, 0) for split in ("train", "val")] == ["rgb.jpg", "sub/rgb.jpg"]


def test_images_that_cannot_be_read_are_not_predicted_on_request(fitted, run, mistake, write_photo, tmp_path):
    write_photo(tmp_path / "images/good.jpg", 40, 40)
    (tmp_path / "images/bad.jpg").write_text("no")
    words = ("predict", "--ckpt_path", fitted.best, "--data.root", tmp_path / "images")
    assert f"{tmp_path}/images/bad.jpg cannot be read as an image" in mistake(*words, leaves_run=True)
    predicted = run(*words, "--data.on_error", "skip", "--data.batch_size", 1)
    assert [path.name for path in (predicted.directory / "masks").iterdir()] == ["good.png"]
    listed = f"skipped (1):\n  {tmp_path}/images/bad.jpg cannot be read as an image"
    assert listed in predicted.err
    (tmp_path / "images/good.jpg").unlink()
    with pytest.raises(AssertionError, match="nothing was predicted: none of the images can be read"):
        run(*words, "--data.on_error", "skip")


def test_an_image_of_one_pixel_is_not_predicted(fitted, mistake, tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    message = mistake("predict", "--ckpt_path", fitted.best, "--data.root", tmp_path, leaves_run=True)
    assert f"{tmp_path}/dot.png has one pixel: there is nothing to segment" in message


def test_a_classifier_takes_no_masks_and_a_segmenter_no_labels(mistake, configs):
    recipe = ("fit", "--config", configs / "segmentation/unet_digits.yaml")
    few = ("--data.batch_size", 4, "--trainer.max_epochs", 1, "--model.class_weights", "null")
    assert "DigitsDataModule has no masks for SegmentationTask" in mistake(*recipe, "--data", "DigitsDataModule", *few)
    assert "in_chans 4 of the model contradicts" in mistake(*recipe, "--model.in_chans", 4)
    assert "unknown loss 'dise'; did you mean 'dice'" in mistake(*recipe, "--model.losses", "{dise: 1}")


def test_masks_that_do_not_fit_are_named_before_training(mistake, tmp_path, configs):
    for folder in ("images", "masks"):
        (tmp_path / f"train/{folder}").mkdir(parents=True)
        for n in range(4):
            Image.new("L", (20, 20), 3 * n * (folder == "masks")).save(tmp_path / f"train/{folder}/{n}.png")
    data = ("--data.root", tmp_path, "--data.class_names", "[a, b, c, d]", "--data.val_fraction", 0.5)
    recipe = ("fit", "--config", configs / "segmentation/unet_pets.yaml", "--model.pretrained_backbone", "false")
    message = mistake(*recipe, "--data", "MaskFolderDataModule", *data)
    assert "2.png, " in message
    assert "3.png) have the ids 6, 9: there are the classes 0 to 3" in message


@pytest.mark.slow
def test_two_processes_find_and_count_what_one_does(fitted, tmp_path):
    """7 images in batches of 4: one process has 4 of them, the other 3."""
    common = ("--ckpt_path", fitted.best, "--wandb", "disabled", "--trainer.accelerator", "cpu")
    run_forked(
        *(
            (n, [name, *common, "--trainer.devices", n, "--trainer.default_root_dir", tmp_path / f"{name}-{n}"])
            for name in ("test", "predict")
            for n in (1, 2)
        )
    )
    figures = [next((tmp_path / f"test-{n}").rglob("metrics.csv")).read_text() for n in (1, 2)]
    assert figures[0] == figures[1]
    alone, shared = (sorted((tmp_path / f"predict-{n}").rglob("*.png")) for n in (1, 2))
    for n, masks in ((1, alone), (2, shared)):
        (directory,) = (path.parent for path in (tmp_path / f"predict-{n}").rglob("config.yaml"))
        assert masks == [directory / f"masks/{index:06d}.png" for index in range(7)]
        pictures = sorted((tmp_path / f"predict-{n}").rglob("*.jpg"))
        assert pictures == [directory / f"pictures/{index:06d}.jpg" for index in range(7)]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(alone, shared, strict=True))


@pytest.mark.slow
def test_two_processes_write_masks_where_the_first_can_read_nothing(fitted, write_photo, tmp_path):
    for name in ("a.jpg", "a.png", "below/a.jpg", "b.jpg"):
        write_photo(tmp_path / "images" / name, 40, 40)
    (tmp_path / "images/b.jpg").write_text("no")
    for name in ("a.jpg", "a.png"):  # the first of two batches, which is the first process's
        (tmp_path / "images" / name).write_text("no")
    shared = ("--wandb", "disabled", "--trainer.accelerator", "cpu", "--trainer.default_root_dir", tmp_path / "runs")
    data = ("--data.root", tmp_path / "images", "--data.on_error", "skip", "--data.batch_size", 2)
    run_forked((2, ["predict", "--ckpt_path", fitted.best, *data, *shared, "--trainer.devices", 2]))
    (masks,) = (tmp_path / "runs").rglob("masks")
    assert [path.relative_to(masks).as_posix() for path in masks.rglob("*.png")] == ["below/a.png"]
