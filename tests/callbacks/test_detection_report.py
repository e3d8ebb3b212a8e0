"""Detections as W&B shows them: the images and boxes of the best validation, those found and those there."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tracked import fit

from cnnbench.callbacks.detection_report import DetectionReport
from cnnbench.callbacks.pictures import unpacked

MEAN, STD = (0.5,), (0.25,)


def validated(report, score, epoch, brightness):
    """Let a report see a validation of 3 images of 20 x 40 pixels, each 10 x 20 on a canvas of 32 x 32."""
    trainer = SimpleNamespace(
        datamodule=SimpleNamespace(mean=MEAN, std=STD),
        world_size=1,
        sanity_checking=False,
        current_epoch=epoch,
        callback_metrics={"val/map": torch.tensor(score)},
    )
    task = SimpleNamespace(monitor="val/map", monitor_mode="max")
    batch = {
        "image": torch.full((3, 1, 32, 32), (brightness / 255 - MEAN[0]) / STD[0]),
        "size": torch.tensor([[10, 20]] * 3),
        "original_size": torch.tensor([[20, 40]] * 3),
        "index": torch.tensor([2, 0, 1]),
    }
    found = {"boxes": torch.tensor([[10.0, 5.0, 40.0, 20.0]]), "scores": torch.tensor([0.75]), "labels": torch.ones(1)}
    there = {"boxes": torch.tensor([[0.0, 5.0, 40.0, 10.0]]), "labels": torch.zeros(1)}
    report.on_validation_epoch_start(trainer, task)
    report.on_validation_batch_end(trainer, task, {"detections": [found] * 3, "truths": [there] * 3}, batch, 0)
    report.on_validation_epoch_end(trainer, task)
    report.on_validation_end(trainer, task)


def test_the_first_images_of_the_best_validation_are_kept_also_by_a_checkpoint(tmp_path):
    report, resumed = DetectionReport(images=2), DetectionReport(images=2)
    for epoch, (score, brightness) in enumerate([(0.2, 50), (0.6, 200), (0.4, 100)]):
        validated(report, score, epoch, brightness)
    torch.save(report.state_dict(), tmp_path / "state")
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    epoch, collected = resumed._best
    assert epoch == 1
    assert [kept["index"] for kept in collected["images"]] == [0, 1]
    for kept in collected["images"]:
        picture = np.asarray(unpacked(kept["image"]))
        assert picture.shape == (10, 20)  # without what the canvas pads
        assert np.allclose(picture, 200, atol=2)
        assert kept["found"]["boxes"].tolist() == [[0.25, 0.25, 1.0, 1.0]]
        assert kept["there"]["boxes"].tolist() == [[0.0, 0.25, 1.0, 0.5]]


@pytest.mark.slow  # of wandb most of the time
def test_boxes_found_and_boxes_there_lie_on_the_logged_images(tmp_path, configs):
    few = ("--data.val_scenes", "5", "--data.train_scenes", "24", "--data.batch_size", "4")
    all_boxes = ("--model.model_args", "{strides: [8], anchors: [[20, 30]], score_thresh: 0.0}")
    run = fit(tmp_path, *few, *all_boxes, recipe=configs / "detection/yolo_digits.yaml")
    assert run.code == 0, run.err
    files = list(run.directory.rglob("*.boxes2D.json"))
    images = list(run.directory.glob("wandb/offline-run-*/files/media/images/val/*.png"))
    assert len(images) == 5
    boxes = [box for file in files for box in json.loads(file.read_text())["box_data"]]
    assert {"score" in box.get("scores", {}) for box in boxes} == {True, False}  # those found, and those there
    assert all(0 <= box["position"]["minX"] <= box["position"]["maxX"] <= 1 for box in boxes)
