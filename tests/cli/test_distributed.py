"""Two processes on a CPU (gloo), started by Lightning as it starts a user's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cnnbench.data import MNISTDataModule

TWO = ("--trainer.accelerator", "cpu", "--trainer.devices", 2, "--trainer.strategy", "ddp")
ONE = ("--trainer.devices", 1, "--trainer.strategy", "auto")

# Lightning starts the program that calls it once more; here that runs one command after another.
PROGRAM = """
import sys
from pathlib import Path

from cnnbench.cli.main import main

recipe, root, *options = sys.argv[1:]
assert main(["fit", "--config", recipe, "--trainer.max_epochs", "2", *options]) == 0
(checkpoint,) = Path(root).rglob("best.ckpt")
trained = ("--config", str(checkpoint.parents[1] / "config.yaml"), "--ckpt_path", str(checkpoint))
for command in ("test", "predict"):
    assert main([command, *trained, *options]) == 0
"""


@pytest.fixture
def options(mnist):
    """MNIST-like files of 100 training and 37 test images."""
    root, _ = mnist
    return "--data.root", root, "--data.download", "false", "--data.val_size", 21, "--data.batch_size", 8


@pytest.fixture
def together(tmp_path, options, configs):
    """What two processes print that train, test and predict, their runs below `tmp_path`."""
    (tmp_path / "program.py").write_text(PROGRAM)
    common = ("--wandb", "disabled", "--trainer.default_root_dir", tmp_path / "runs")
    words = (tmp_path / "program.py", configs / "mnist/lenet5.yaml", tmp_path / "runs", *TWO, *options, *common)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_train_as_one_and_evaluate_exactly(together, command, options, tmp_path):
    assert together.count("epoch 2/2") == 1  # only the first process speaks
    (checkpoint,) = (tmp_path / "runs").rglob("best.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] in (5, 10)  # 79 images, 2 x 8 a step
    trained = ("--config", checkpoint.parents[1] / "config.yaml", "--ckpt_path", checkpoint)
    for name, file in (("test", "metrics.csv"), ("predict", "predictions.csv")):
        (evaluated,) = (tmp_path / "runs").rglob(f"*-{name}/{file}")
        alone = command(name, *trained, *options, *ONE).directory / file
        assert evaluated.read_text() == alone.read_text()
    assert alone.read_text().count("\n") == 1 + 37


def test_the_set_is_odd(mnist):
    """What the test above relies on: two processes cannot share these images evenly."""
    root, _ = mnist
    data = MNISTDataModule(str(root), download=False, val_size=21)
    data.setup("test")
    assert len(data.datasets["test"]) % 2 == 1


# torchrun starts both processes at once: neither inherits anything from the other.
UNDER_TORCHRUN = """
import os
import sys
from pathlib import Path

from cnnbench.cli.fit import FitCLI
from cnnbench.cli.predict import PredictCLI

recipe, root, *options = sys.argv[1:]
data, options = options[: options.index("--")], options[options.index("--") + 1 :]
short = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1")
fit = FitCLI(["fit", "--config", recipe, *short, *data, *options])
checkpoint = str(fit.directory / "checkpoints/best.ckpt")
predict = PredictCLI(["predict", "--ckpt_path", checkpoint, *options])
told = [f"{cli.command} {cli.directory}" for cli in (fit, predict)]
Path(root, f"rank{os.environ['RANK']}").write_text("\\n".join(told))
"""


def test_processes_that_torchrun_starts_share_a_directory(tmp_path, options, configs):
    (tmp_path / "program.py").write_text(UNDER_TORCHRUN)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, tmp_path / "program.py")
    common = ("--wandb", "disabled", "--trainer.default_root_dir", tmp_path / "runs")
    words = (sys.executable, *torchrun, configs / "mnist/lenet5.yaml", tmp_path, *options, "--", *TWO, *common)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    told = [(tmp_path / f"rank{rank}").read_text().splitlines() for rank in (0, 1)]
    assert told[0] == told[1]
    directories = {Path(line.split()[1]) for line in told[0]}
    assert set((tmp_path / "runs/mnist/lenet5").iterdir()) == directories
    assert all((directory / "config.yaml").is_file() for directory in directories)
