"""How a command ends that cannot write, is stopped, loses its reader or meets a mistake of ours."""

import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

from cnnbench.cli.main import main

LENET5 = ("fit", "--config", "configs/lenet5.yaml")


@pytest.mark.parametrize("below", ["", "runs"])
def test_a_file_in_the_way_of_the_runs(tmp_path, capsys, below):
    (tmp_path / "file").write_text("precious")
    root = tmp_path / "file" / below
    assert main([*LENET5, "--wandb", "disabled", "--trainer.default_root_dir", str(root)]) == 2
    assert f"cannot write the run's directory {root}/lenet5/" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "precious"


def test_a_disk_that_fills(mistake, monkeypatch):
    """What was written stays whole, and no part of a file is left."""

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    message = mistake(*LENET5, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", leaves_run=True)
    path = Path(message.removeprefix("cnnbench: error: cannot write ").partition(": No space left on device\n")[0])
    assert path.name in ("best.ckpt", "last.ckpt")
    assert not any(path.parent.iterdir())


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("CNNBENCH_DEBUG", "1")
    assert main([*LENET5, "--model.name", "resnet19"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith(
        "cnnbench: error: unknown model 'resnet19'; did you mean 'resnet18', 'resnet152' or 'resnet101'?\n"
    )


def test_our_own_mistakes_keep_their_traceback(tmp_path, monkeypatch):
    def broken(*args):
        raise ValueError("ours")

    monkeypatch.setattr("cnnbench.tasks.classification.ClassificationTask.training_step", broken)
    with pytest.raises(ValueError, match="ours"):
        main([*LENET5, "--wandb", "disabled", "--trainer.default_root_dir", str(tmp_path)])


@contextmanager
def ending(process):
    """Ends the process with the test, however that ends."""
    try:
        yield
    finally:
        process.kill()


def test_ctrl_c_keeps_the_last_checkpoint(tmp_path):
    options = ("--trainer.max_epochs", "1000", "--wandb", "disabled", "--trainer.default_root_dir", str(tmp_path))
    command = [sys.executable, "-m", "cnnbench", *LENET5, *options]
    # a shell's background job is born deaf to Ctrl-C, and so are its children
    hearing = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, preexec_fn=hearing) as process, ending(process):
        deadline = time.monotonic() + 120
        while not (found := list(tmp_path.rglob("last.ckpt"))) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert found, "no checkpoint within two minutes"
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"--ckpt_path {found[0]}" in err
    assert torch.load(found[0], weights_only=True)["global_step"] > 0


def test_a_reader_who_leaves():
    command = f"{sys.executable} -u -m cnnbench models lenet5 | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_loss_that_is_lost(mistake):
    """The second epoch begins with a rate that no network survives; the first one's checkpoints stay."""
    schedule = ("--model.optim.sched=step", "--model.optim.decay_epochs=1", "--model.optim.decay_rate=1e30")
    message = mistake(*LENET5, *schedule, "--model.optim.warmup_epochs=0", leaves_run=True)
    assert "is not finite since step" in message
    assert "the batch of step" in message
    kept = Path(re.search(r"the checkpoint from before it is (\S+);", message)[1])
    assert all(value.isfinite().all() for value in torch.load(kept, weights_only=True)["state_dict"].values())
