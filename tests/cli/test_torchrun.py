"""Processes that torchrun starts are one run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TWO = ("--trainer.accelerator", "cpu", "--trainer.devices", 2, "--trainer.strategy", "ddp")

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


@pytest.fixture
def options(mnist):
    """MNIST-like files of 100 training and 37 test images."""
    root, _ = mnist
    return "--data.root", root, "--data.download", "false", "--data.val_size", 21, "--data.batch_size", 8


@pytest.mark.slow  # two nodes under torchrun are tested in every run
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
