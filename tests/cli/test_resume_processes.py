"""Two processes that were killed and resumed end as two that nobody killed, to the last bit."""

from pathlib import Path

import pytest
import torch
from forked import run_forked
from soak import AVERAGE, compare

KILLED = Path(__file__).with_name("fit_killed.py")
NETWORK = ("--model.name", "mini_resnet", "--model.mixup", 0.8, AVERAGE)  # BatchNorm has statistics in each process
DATA = ("--data.image_size", 16, "--data.batch_size", 16, "--data.augmentation.rotation", 10)
STEPS = ("--trainer.max_epochs", 2, "--trainer.limit_train_batches", 14, "--trainer.limit_val_batches", 3)
TWO = ("--trainer.accelerator", "cpu", "--trainer.devices", 2, "--trainer.strategy", "ddp")


@pytest.mark.slow
def test_two_processes_go_on_within_an_epoch(configs, tmp_path):
    """They agree every ten steps on whether to save: before the batches 11 and 21."""

    def fit(root):
        words = ("fit", "--config", configs / "lenet5.yaml", *NETWORK, *DATA, *STEPS, *TWO, "--checkpoint_every", 3)
        return (*words, "--wandb", "disabled", "--trainer.default_root_dir", tmp_path / root)

    def steps():
        return [torch.load(path, weights_only=True)["global_step"] for path in tmp_path.glob("killed/*/*/*/last.ckpt")]

    run_forked((2, fit("undisturbed")), (2, (KILLED, 14, *fit("killed"))))
    assert steps() == [10]
    again = (*fit("killed"), "--ckpt_path", "last")
    run_forked((2, (KILLED, 13, *again)))
    assert steps() == [20]
    run_forked((2, again))
    killed, undisturbed = (next((tmp_path / root).rglob("config.yaml")).parent for root in ("killed", "undisturbed"))
    assert compare(killed, undisturbed) == []
