"""Runs with `--trainer.strategy fsdp2`, in two processes on a CPU: what they learn and leave is what DDP's do."""

import csv
import shutil

import pytest
import torch
from forked import run_forked

SHORT = ("--trainer.limit_train_batches", 3, "--trainer.limit_val_batches", 3, "--trainer.log_every_n_steps", 1)
RECIPE = (
    "--model.name",
    "mini_resnet",
    "--data.image_size",
    16,
    "--data.batch_size",
    16,
    "--model.optim.warmup_epochs",
    0,
)
TRAINED = (
    "--model.optim.optimizer",
    "adamw",
    "--model.optim.sched",
    "constant",
    "--model.optim.lr",
    1e-3,
    "--model.optim.clip_grad",
    0.5,
)
WAYS = ("ddp", "fsdp2")


def other(way):
    return WAYS[1 - WAYS.index(way)]


def metrics(directory):
    """The rows of `metrics.csv`, without what is empty in each."""
    with (directory / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def runs(configs, tmp_path_factory):
    """Directories of runs: of an epoch by `ddp` and by `fsdp2`, and of one more by each from the other's checkpoint."""
    root = tmp_path_factory.mktemp("runs")
    recipe = ("--config", configs / "resnet18.yaml", *RECIPE, *TRAINED, *SHORT)
    cpu = ("--wandb", "disabled", "--trainer.accelerator", "cpu", "--trainer.devices", 2)

    def fit(way, name, *words):
        return 2, ["fit", *recipe, *cpu, "--trainer.strategy", way, "--trainer.default_root_dir", root / name, *words]

    run_forked(*(fit(way, way, "--trainer.max_epochs", 1) for way in WAYS))
    found = {way: next((root / way).rglob("config.yaml")).parent for way in WAYS}
    for way in WAYS:  # away from its run, which would be gone on with
        shutil.copy(found[way] / "checkpoints/last.ckpt", root / f"{way}.ckpt")
    longer = ("--trainer.max_epochs", 2)
    run_forked(*(fit(way, f"on-{way}", *longer, "--ckpt_path", root / f"{other(way)}.ckpt") for way in WAYS))
    return found | {f"on {way}": next((root / f"on-{way}").rglob("config.yaml")).parent for way in WAYS}


def assert_alike(ours, theirs, tolerance=1e-4):
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=tolerance)


@pytest.mark.slow
def test_it_learns_what_ddp_learns(runs):
    assert_alike(metrics(runs["fsdp2"]), metrics(runs["ddp"]))
    norms = [row["train/grad_norm"] for row in metrics(runs["ddp"]) if "train/grad_norm" in row]
    assert max(norms) > 0.5  # the clipping had something to do


def structure(value):
    if isinstance(value, torch.Tensor):
        assert type(value) is torch.Tensor
        return tuple(value.shape), value.dtype
    if isinstance(value, dict):
        return {key: structure(entry) for key, entry in value.items()}
    return [structure(entry) for entry in value] if isinstance(value, list) else type(value)


@pytest.mark.slow
def test_its_checkpoint_is_ddps(runs):
    ours, theirs = (torch.load(runs[way] / "checkpoints/last.ckpt", weights_only=True) for way in ("fsdp2", "ddp"))
    for key in ("state_dict", "optimizer_states", "hyper_parameters"):
        assert structure(ours[key]) == structure(theirs[key])
    for key, value in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][key], value, rtol=1e-3, atol=1e-4, msg=key)
    states = (checkpoint["optimizer_states"][0]["state"] for checkpoint in (ours, theirs))
    for mine, other in zip(*(state.values() for state in states), strict=True):
        torch.testing.assert_close(mine["exp_avg"], other["exp_avg"], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_each_goes_on_from_the_others_checkpoint(runs):
    assert_alike(metrics(runs["on fsdp2"]), metrics(runs["on ddp"]), tolerance=1e-3)


@pytest.mark.slow
def test_one_process_evaluates_what_two_have_trained(runs, command):
    directory = runs["fsdp2"]
    words = ("--config", directory / "config.yaml", "--ckpt_path", directory / "checkpoints/last.ckpt")
    alone = command(
        "validate", *words, "--trainer.devices", 1, "--trainer.strategy", "auto", "--trainer.limit_val_batches", 6
    )
    within = [row for row in metrics(directory) if "val/loss" in row][-1]
    (row,) = alone.metrics
    for key in ("val/loss", "val/accuracy", "val/accuracy_top5"):
        assert row[key] == pytest.approx(within[key], rel=1e-12), key


@pytest.mark.slow
def test_one_process_divides_among_itself(configs, tmp_path):
    words = ("--config", configs / "lenet5.yaml", *SHORT, "--trainer.max_epochs", 1, "--wandb", "disabled")
    words = (*words, "--channels_last", "true")  # of the images; FSDP2 keeps weights in no such format
    alone = ("--trainer.accelerator", "cpu", "--trainer.devices", 1, "--trainer.default_root_dir")
    strategies = ("auto", "fsdp2")
    run_forked(*((1, ["fit", *words, *alone, tmp_path / way, "--trainer.strategy", way]) for way in strategies))
    assert_alike(*(metrics(next((tmp_path / way).rglob("config.yaml")).parent) for way in strategies))


@pytest.mark.parametrize(("strategy", "nearest"), [("fsdp3", "'fsdp2'"), ("fsdp", "fsdp2"), ("dpp", "'ddp'")])
def test_a_strategy_that_cannot_be_is_named(mistake, strategy, nearest):
    words = ("--config", "configs/lenet5.yaml", "--trainer.accelerator", "cpu", "--trainer.strategy", strategy)
    message = mistake("fit", *words)
    assert repr(strategy) in message
    assert nearest in message.replace(repr(strategy), "")
