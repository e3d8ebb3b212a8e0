"""`predict`, `test` and `validate` with a checkpoint and no recipe."""

import csv
import shutil

import pytest
import torch
import yaml
from PIL import Image

from cnnbench.callbacks.checkpoint_files import read_checkpoint
from cnnbench.data import DigitsDataModule


@pytest.fixture(scope="module")
def command(commands, tmp_path_factory):
    return commands(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def run(trained):
    return trained("lenet5")


@pytest.fixture(scope="module")
def with_recipe(command, run):
    """What `predict` and `test` write that are given the run's recipe too."""
    return {name: command(name, "--config", run.config, "--ckpt_path", run.checkpoint) for name in ("predict", "test")}


def rows(run):
    with (run.directory / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_folder_of_images_is_predicted_as_the_run_saw_them(command, run, with_recipe, tmp_path):
    """Grey images of 32 pixels, some of them saved in colour, in folders of any depth."""
    digits = DigitsDataModule()
    digits.setup()
    for index, pixels in enumerate(digits.datasets["test"].images[:, 0].numpy()):
        path = tmp_path / "images" / ("a/deep/folder" if index < 100 else "b") / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert("RGB" if index % 2 else "L").save(path)
    predicted = command("predict", "--ckpt_path", run.checkpoint, "--data.root", tmp_path / "images")
    assert f"images   270 below {tmp_path}/images" in predicted.out
    expected = rows(with_recipe["predict"])
    for index, (row, by_run) in enumerate(zip(rows(predicted), expected, strict=True)):
        assert row.pop("image").endswith(f"{index:03}.png")
        assert row == {key: value for key, value in by_run.items() if key not in ("image", "label")}


def test_the_runs_own_data_and_settings_are_known(command, run, with_recipe):
    alone = command("test", "--ckpt_path", run.checkpoint)
    assert alone.metrics == with_recipe["test"].metrics
    ours, its = (yaml.safe_load(path.read_text()) for path in (alone.config, run.config))
    assert ours["data"] == its["data"]
    settled = {"num_classes": 10, "in_chans": 1, "model_args": {}}
    assert ours["model"]["init_args"] == its["model"]["init_args"] | settled
    assert alone.directory.parent.name == "lenet5"


def test_what_is_given_counts_more_than_what_is_recorded(command, run, with_recipe):
    given = ("--model.source", "timm", "--data.batch_size", 100)
    alone = command("test", "--ckpt_path", run.checkpoint, *given)
    assert alone.metrics[0] == pytest.approx(with_recipe["test"].metrics[0], rel=1e-5)
    settings = yaml.safe_load(alone.config.read_text())
    assert settings["model"]["init_args"]["source"] == "timm"
    assert settings["data"]["init_args"]["batch_size"] == 100


def test_what_a_checkpoint_says_of_itself(run):
    record = read_checkpoint(run.checkpoint)["cnnbench"]
    digits = DigitsDataModule()
    assert (record["model"], record["source"]) == ("lenet5", "cnnbench")
    assert record["class_names"] == digits.class_names
    assert (record["mean"], record["std"]) == (digits.mean, digits.std)
    assert (record["image_size"], record["in_chans"]) == (32, 1)


@pytest.fixture
def changed(run, tmp_path):
    """A function that returns a copy of the checkpoint whose record another cnnbench has written."""

    def change(**record):
        checkpoint = torch.load(run.checkpoint, weights_only=True)
        checkpoint["cnnbench"] |= record
        checkpoint["cnnbench"] = {key: value for key, value in checkpoint["cnnbench"].items() if value is not None}
        torch.save(checkpoint, tmp_path / "other.ckpt")
        return tmp_path / "other.ckpt"

    return change


@pytest.mark.parametrize("name", ["predict", "test", "validate"])
def test_a_checkpoint_that_does_not_say_what_is_needed(mistake, changed, name):
    path = changed(task=None)
    message = mistake(name, "--ckpt_path", path)
    assert f"{path} does not say what its model and classes are" in message
    path = changed(data=None)
    message = mistake(name, "--ckpt_path", path)
    assert f"{path} does not say what data it was trained on" in message


def test_a_checkpoint_of_a_newer_version(mistake, changed):
    path = changed(version="99.1")
    assert f"{path} was written by cnnbench 99.1, this is 0." in mistake("predict", "--ckpt_path", path)


def test_a_damaged_checkpoint_alone(mistake, run, tmp_path):
    path = shutil.copy(run.checkpoint, tmp_path / "best.ckpt")
    path.write_bytes(path.read_bytes()[:-50])
    message = mistake("predict", "--ckpt_path", path, "--data.root", tmp_path)
    assert f"{path} is damaged or not a checkpoint: it was cut short" in message
    assert "did you mean" in mistake("predict", "--ckpt_path", run.checkpoint.with_name("bets.ckpt"))


def test_classes_that_the_model_does_not_know(mistake, run, photos):
    photos = ("--data", "ImageFolderDataModule", "--data.root", photos)
    message = mistake("validate", "--ckpt_path", run.checkpoint, *photos)
    assert "/val/cat is a class that class_names lacks" in message
