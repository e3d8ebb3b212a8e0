"""What `fit` does instead of training: finding a learning rate or a batch size, and profiling."""

import csv
import json
import re
from collections import Counter

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.tuner import batch_size_scaling

from cnnbench.cli.common.short_runs import _steepest
from cnnbench.cli.main import main
from cnnbench.tasks import ClassificationTask

LENET5 = ("fit", "--config", "configs/lenet5.yaml")


def rows(run):
    """The printed lines: name -> value."""
    return dict(re.split(r" {2,}", line, maxsplit=1) for line in run.out.splitlines() if "  " in line)


def files(run):
    return {path.name for path in run.directory.parents[1].rglob("*") if path.is_file()}


def test_the_learning_rate_of_the_steepest_descent(command):
    run = command(*LENET5, "--find_lr", "--data.batch_size", 8)
    with (run.directory / "lr_find.csv").open() as file:
        lrs, losses = np.array([[float(row["lr"]), float(row["loss"])] for row in csv.DictReader(file)]).T
    assert len(lrs) > 50
    assert (np.diff(lrs) > 0).all()
    assert losses[:20].mean() == pytest.approx(np.log(10), rel=0.1)  # of ten classes; no mean over others before it
    around = np.concatenate([losses[:1].repeat(5), losses, losses[-1:].repeat(5)])
    means = np.array([around[place : place + 11].mean() for place in range(len(losses))])
    steepest = lrs[np.gradient(means[: means.argmin() + 1]).argmin()]
    option = f"--model.optim.lr {steepest * 64 / 8:.3g}  (for base_batch_size 64)"
    assert rows(run)["learning rate"] == f"{steepest:.3g}, where the loss falls fastest: {option}"
    assert files(run) == {"config.yaml", "lr_find.csv", "lr_find.png"}  # and no checkpoint
    assert "find_lr" not in yaml.safe_load(run.config.read_text())  # the config trains


def test_a_fall_is_one_to_where_no_rate_came_before():
    falls, leaps = np.linspace(2.0, 1.0, 30), [9.0] * 20
    losses = np.concatenate([[2.0] * 20, falls, leaps, [1.5] * 30])
    _, steepest = _steepest(losses)
    assert 20 < steepest < 50
    assert _steepest(np.linspace(1.0, 2.0, 100))[1] is None
    assert _steepest(np.append(losses[:9], np.nan))[1] is None


@pytest.fixture
def no_device(monkeypatch):
    """Lightning frees a device's memory between trials, which takes longest where there is none."""
    monkeypatch.setattr(batch_size_scaling, "garbage_collection_cuda", lambda: None)


@pytest.fixture
def memory_for_10(monkeypatch):
    """A device that holds batches of 10 images."""
    step = ClassificationTask.training_step

    def training_step(task, batch, batch_idx):
        if len(batch["image"]) > 10:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(task, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", training_step)


@pytest.mark.parametrize(("mode", "largest"), [("power", 8), ("binsearch", 10)])
def test_the_largest_batch_that_memory_takes(command, memory_for_10, no_device, mode, largest):
    run = command(*LENET5, "--find_batch_size", mode, "--trainer.accumulate_grad_batches", 2)
    assert rows(run)["batch size"] == f"{largest}: --data.batch_size {largest}"
    assert files(run) == {"config.yaml"}


@pytest.mark.parametrize(("mode", "largest"), [("power", 16), ("binsearch", 19)])
def test_the_largest_batch_of_a_small_set(command, mnist, no_device, mode, largest):
    """19 images to train on: no trial asks for more."""
    data = ("--data.root", mnist[0], "--data.download", "false", "--data.val_size", 81)
    run = command("fit", "--config", "configs/mnist/lenet5.yaml", "--find_batch_size", mode, *data)
    limit = f"{largest}: --data.batch_size {largest}; memory may take more, but 19 images are the limit"
    assert rows(run)["batch size"] == limit


@pytest.fixture(scope="module")
def profiled(commands, tmp_path_factory):
    return commands(tmp_path_factory.mktemp("profiled"))(*LENET5, "--profile")


PHASES = ("data", "transfer", "augmentation", "forward", "backward", "optimiser")


def test_the_time_of_each_phase(profiled):
    table = {name: value.split() for name, value in rows(profiled).items() if value.endswith("%")}
    assert list(table) == [*PHASES, "the rest", "step"]
    milliseconds = [float(value[0]) for value in table.values()]
    assert min(milliseconds) >= 0
    assert min(milliseconds[3:6]) > 0
    assert sum(milliseconds[:-1]) == pytest.approx(milliseconds[-1], abs=0.01)
    assert sum(float(value[2].rstrip("%")) for value in table.values()) == pytest.approx(200, abs=1)


def test_the_trace_has_five_steps(profiled):
    trace = json.loads((profiled.directory / "trace.json").read_text())
    names = Counter(event["name"] for event in trace["traceEvents"] if event.get("cat") == "user_annotation")
    assert {name: names[name] for name in PHASES} == dict.fromkeys(PHASES, 5)
    assert any(event["name"] == "aten::convolution" for event in trace["traceEvents"])


def test_nothing_but_the_profile_is_left(profiled):
    assert files(profiled) <= {"config.yaml", "metrics.csv", "trace.json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--find_lr", "--profile"), "--find_lr and --profile exclude each other"),
        (("--profile", "--trainer.fast_dev_run", "1"), "--profile does not go with trainer.fast_dev_run"),
        (("--find_batch_size", "largest"), "find_batch_size is 'largest', but must be power, binsearch or null"),
    ],
)
def test_what_does_not_go_together(mistake, options, message):
    assert message in mistake(*LENET5, *options)


def test_no_learning_rate_where_the_loss_is_never_finite(tmp_path, capsys, monkeypatch):
    def lost(task, batch, batch_idx):
        return torch.tensor(torch.nan) * sum(weight.sum() for weight in task.network.parameters())

    monkeypatch.setattr(ClassificationTask, "training_step", lost)
    options = ("--wandb", "disabled", "--trainer.default_root_dir", str(tmp_path), "--data.batch_size", "8")
    assert main([*LENET5, "--find_lr", *options]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message == "cnnbench: error: no learning rate to suggest: the loss was finite in 0 of 100 steps"
