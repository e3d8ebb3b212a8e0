"""Folders and images that cannot be trained on: the line names them."""

import subprocess
import sys

import pytest

FOLDER = "--model.name lenet5 --model.model_args {} --model.mixup 0 --model.cutmix 0 --data.image_size 32"
FOLDER += " --data.batch_size 4 --trainer.max_epochs 1 --trainer.precision 32-true --trainer.log_every_n_steps 1"


@pytest.fixture
def folder_mistake(mistake, photos):
    """A function that trains on the photos, which the test has spoilt."""
    recipe = ("fit", "--config", "configs/imagenet/convnext_t.yaml", *FOLDER.split(), "--trainer.callbacks", "null")

    def run(*words, **kwargs):
        return mistake(*recipe, "--data.root", photos, "--data.num_workers", "0", *words, **kwargs)

    return run


def test_a_missing_root_names_the_folders_looked_in(folder_mistake, mistake, photos):
    assert f"no folder {photos}/gone/train" in folder_mistake("--data.root", photos / "gone")
    mnist = ("fit", "--config", "configs/mnist/lenet5.yaml", "--data.download", "false")
    message = mistake(*mnist, "--data.root", photos / "gone")
    assert f"no MNIST in {photos}/gone/MNIST/raw, {photos}/gone/raw, {photos}/gone" in message


def test_a_folder_without_images(folder_mistake, photos):
    for image in (photos / "train/cat").iterdir():
        image.unlink()
    assert f"no images below {photos}/train/cat (looked for .jpg" in folder_mistake()


def test_a_class_that_train_lacks(folder_mistake, photos):
    (photos / "val/cat").rename(photos / "val/cats")
    assert f"{photos}/val/cats is a class that {photos}/train lacks; did you mean 'cat'?" in folder_mistake()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_truncated_image(folder_mistake, photos, num_workers, split):
    broken = photos / split / "dog/1.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    message = folder_mistake("--data.num_workers", num_workers, leaves_run=split == "train")
    assert f"{broken} cannot be read as an image" in message


def test_a_text_for_an_image(folder_mistake, photos):
    (photos / "val/dog/1.jpg").write_text("hello")
    assert f"{photos}/val/dog/1.jpg cannot be read as an image: not an image" in folder_mistake()


def test_two_processes_tell_it_once(photos, tmp_path):
    """Only one of them meets the broken image; the other loses its partner."""
    (photos / "train/dog/1.jpg").write_text("hello")
    recipe = ("fit", "--config", "configs/imagenet/convnext_t.yaml", *FOLDER.split(), "--trainer.callbacks", "null")
    two = ("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    options = ("--data.root", photos, "--data.num_workers", "0", "--wandb", "disabled", *two)
    line = [sys.executable, "-m", "cnnbench", *recipe, *options, "--trainer.default_root_dir", tmp_path / "runs"]
    done = subprocess.run([*map(str, line)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    message = f"cnnbench: error: {photos}/train/dog/1.jpg cannot be read as an image: not an image"
    assert [text for text in done.stderr.splitlines() if "error" in text.lower()] == [message]
    assert "Traceback" not in done.stderr
