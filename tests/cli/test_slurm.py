"""A job of SLURM whose time is up is put into the queue again, and goes on where it was."""

import os
import signal

import pytest
import torch

from cnnbench.cli.main import main
from cnnbench.tasks import ClassificationTask

JOB = {"SLURM_JOB_ID": "42", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_NODEID": "0"}
RANKS = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEPS = ("--trainer.limit_train_batches", 6, "--trainer.log_every_n_steps", 1, "--trainer.max_epochs", 2)


class TimeIsUpError(Exception):
    """What SLURM does some seconds after its signal."""


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The file in which a stand-in for `scontrol` notes what it is asked, in a job of one process."""
    asked = tmp_path / "asked"
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    for key, value in (JOB | RANKS).items():
        monkeypatch.setenv(key, value)
    return asked


def test_a_job_is_requeued_and_goes_on(asked, tmp_path, configs, command, monkeypatch):
    root = tmp_path / "runs"  # of this job alone
    words = ("fit", "--config", configs / "lenet5.yaml", *STEPS)

    def end(task, *args):
        if task.trainer.global_step == 8:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not asked.exists()  # it waits until the update is complete and logged
        if task.trainer.global_step == 9:
            raise TimeIsUpError

    with monkeypatch.context() as patched, pytest.raises(TimeIsUpError):
        patched.setattr(ClassificationTask, "on_train_batch_end", end)
        main([*map(str, words), "--trainer.default_root_dir", str(root), "--wandb", "disabled"])
    assert asked.read_text() == "requeue 42\n"
    again = command(*words)  # the same words
    assert [int(row["step"]) for row in again.metrics if "train/lr" in row] == [8, 9, 10, 11]
    assert torch.load(again.directory / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 12
