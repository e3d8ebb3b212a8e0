"""Two processes on a CPU (gloo), started by the command line as a user starts them."""

import os
import subprocess
import sys

import pytest
import torch

from cnnbench.data import MNISTDataModule

TWO = ("--trainer.accelerator", "cpu", "--trainer.devices", 2, "--trainer.strategy", "ddp")

ONE = ("--trainer.devices", 1, "--trainer.strategy", "auto")


@pytest.fixture
def options(mnist):
    """MNIST-like files of 100 training and 37 test images."""
    root, _ = mnist
    return "--data.root", root, "--data.download", "false", "--data.val_size", 21, "--data.batch_size", 8


@pytest.fixture
def launched(tmp_path, options):
    """A function that runs a command as a program of its own, since DDP starts that program again."""
    common = ("--wandb", "disabled", "--trainer.default_root_dir", tmp_path / "runs")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(*words):
        line = [sys.executable, "-m", "cnnbench", *words, *options, *common]
        done = subprocess.run([*map(str, line)], capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_two_processes_train_as_one_and_evaluate_exactly(launched, command, configs, options, tmp_path):
    out = launched("fit", "--config", configs / "mnist/lenet5.yaml", "--trainer.max_epochs", 2, *TWO)
    assert out.count("epoch 2/2") == 1  # only the first process speaks
    (run_directory,) = (path.parent for path in (tmp_path / "runs").rglob("config.yaml"))
    checkpoint = run_directory / "checkpoints/best.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] in (5, 10)  # 79 images, 2 x 8 a step
    trained = ("--config", run_directory / "config.yaml", "--ckpt_path", checkpoint)

    alone = {name: command(name, *trained, *options, *ONE).directory for name in ("test", "predict")}
    for name, file in (("test", "metrics.csv"), ("predict", "predictions.csv")):
        launched(name, *trained)
        (together,) = (path for path in (tmp_path / "runs").rglob(f"*-{name}*/{file}") if path.parent != alone[name])
        assert together.read_text() == (alone[name] / file).read_text()
    assert (alone["predict"] / "predictions.csv").read_text().count("\n") == 1 + 37


def test_the_set_is_odd(mnist):
    """What the test above relies on: two processes cannot share these images evenly."""
    root, _ = mnist
    data = MNISTDataModule(str(root), download=False, val_size=21)
    data.setup("test")
    assert len(data.datasets["test"]) % 2 == 1
