"""Masks as W&B shows them: the images and masks of the best validation, those found and those there."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tracked import fit

from cnnbench.callbacks.masks import palette
from cnnbench.callbacks.pictures import unpacked
from cnnbench.callbacks.segmentation_report import SegmentationReport


def validated(report, score, epoch):
    """Let a report see a validation of 3 images of 10 x 20 pixels on a canvas, their masks being twice as large."""
    trainer = SimpleNamespace(
        datamodule=SimpleNamespace(mean=(0.5,), std=(0.25,)),
        world_size=1,
        sanity_checking=False,
        current_epoch=epoch,
        callback_metrics={"val/miou": torch.tensor(score)},
    )
    task = SimpleNamespace(monitor="val/miou", monitor_mode="max")
    size = torch.tensor([[10, 20]] * 3)
    batch = {"image": torch.zeros(3, 1, 32, 32), "size": size, "index": torch.tensor([2, 0, 1])}
    masks = {
        name: [torch.full((20, 40), epoch + own, dtype=torch.uint8)] * 3 for name, own in (("classes", 0), ("masks", 5))
    }
    report.on_validation_epoch_start(trainer, task)
    report.on_validation_batch_end(trainer, task, masks, batch, 0)
    report.on_validation_epoch_end(trainer, task)
    report.on_validation_end(trainer, task)


def test_the_first_images_of_the_best_validation_are_kept_also_by_a_checkpoint(tmp_path):
    report, resumed = SegmentationReport(images=2), SegmentationReport(images=2)
    for epoch, score in enumerate([0.2, 0.6, 0.4]):
        validated(report, score, epoch)
    torch.save(report.state_dict(), tmp_path / "state")
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    epoch, collected = resumed._best
    assert epoch == 1
    assert [kept["index"] for kept in collected["images"]] == [0, 1]
    for kept in collected["images"]:
        assert np.asarray(unpacked(kept["image"])).shape == (10, 20)  # without what the canvas pads
        assert kept["found"].unique().tolist() == [1]
        assert kept["there"].unique().tolist() == [6]


def test_the_palette_is_vocs():
    """Colours that the VOC 2012 development kit lists."""
    colours = palette(256)
    assert colours[:4] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert (colours[15], colours[20], colours[255]) == ((192, 128, 128), (0, 64, 128), (224, 224, 192))


@pytest.mark.slow  # of wandb most of the time
def test_masks_found_and_masks_there_lie_on_the_logged_images(tmp_path, configs):
    few = ("--data.objects", "[1, 3]", "--data.val_scenes", "5", "--data.train_scenes", "24", "--data.batch_size", "4")
    run = fit(tmp_path, *few, recipe=configs / "segmentation/unet_digits.yaml")
    assert run.code == 0, run.err
    masks = list(run.directory.glob("wandb/offline-run-*/files/media/images/mask/**/*.png"))
    assert len(list(run.directory.glob("wandb/offline-run-*/files/media/images/val/*.png"))) == 5
    assert 5 < len(masks) <= 10  # of each image what is there, and what is found; equal ones are one file
    assert {Image.open(mask).size for mask in masks} == {(96, 96)}
