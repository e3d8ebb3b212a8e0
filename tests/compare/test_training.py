"""Training duels: the very training of `fit`, on both sides, kept, gone on with, and told in words."""

import json
import math
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel
from torch import nn
from tracked import clean_environment, session
from wandb_log import WandbLog

from cnnbench.compare.result import Training, from_json, to_json
from cnnbench.compare.settings import Settings
from cnnbench.compare.sides import Side, reference_of, side
from cnnbench.compare.training import train_duels
from cnnbench.errors import UserError
from cnnbench.models import create_model
from cnnbench.tasks import ClassificationTask
from cnnbench.tasks.base import Task

STEPS = 6


@pytest.fixture(scope="module")
def short(configs):
    return Settings(checks=("training",), config=str(configs / "lenet5.yaml"), steps=STEPS)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("duels")


@pytest.fixture(scope="module")
def equal(short, kept):
    return train_duels(side("lenet5"), reference_of("lenet5"), short, kept)


def frozen_lenet5(**arguments):
    network = create_model("lenet5", **arguments)
    network.c1.requires_grad_(False)
    return network


def dropping_lenet5(**arguments):
    return create_model("lenet5", drop_rate=0.3, **arguments)


def plain_lenet5(num_classes, in_chans):
    return create_model("lenet5", source="timm", num_classes=num_classes, in_chans=in_chans)


def test_equal_networks_have_identical_losses(equal):
    (duel,) = equal.duels
    assert equal.verdict == "identical losses in all 6 steps of 1 seed"
    assert (duel.steps, duel.first_different_step, duel.largest_difference) == (STEPS, None, 0)
    assert duel.losses[0] == duel.losses[1]
    assert len(set(duel.losses[0])) == STEPS
    assert {"val/loss", "val/accuracy", "test/loss", "test/accuracy"} <= duel.metrics.keys()
    assert all(ours == theirs for ours, theirs in duel.metrics.values())
    assert min(duel.seconds_per_step) > 0


def test_one_seed_tells_nothing_of_the_spread(equal):
    for summary in equal.metrics:
        assert math.isnan(summary.ours[1])
        assert (summary.difference.low, summary.difference.high) == (-math.inf, math.inf)


def test_it_is_the_training_of_fit(equal, short, command):
    run = command("fit", "--config", short.config, "--trainer.max_steps", STEPS, "--trainer.log_every_n_steps", 1)
    assert run.curve("train/loss") == equal.duels[0].losses[0]


def test_a_second_call_trains_nothing(equal, short, kept, monkeypatch):
    monkeypatch.setattr(ClassificationTask, "training_step", lambda *args: pytest.fail("it trains"))
    assert to_json(train_duels(side("lenet5"), reference_of("lenet5"), short, kept)) == to_json(equal)


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 5}])
def test_what_decides_the_figures_is_trained_anew(equal, short, kept, change):
    other = train_duels(side("lenet5"), reference_of("lenet5"), replace(short, **change), kept)
    assert other.duels[0].losses[0] != equal.duels[0].losses[0]


def test_the_result_travels_as_json(equal):
    document = json.loads(json.dumps(to_json(equal), allow_nan=False))
    assert to_json(from_json(Training, document)) == document


@pytest.mark.parametrize(("make", "step"), [(dropping_lenet5, 1), (frozen_lenet5, 2)])
def test_a_planted_difference_shows_at_its_step(short, kept, make, step):
    result = train_duels(side("lenet5"), Side("planted", make), short, kept)
    (duel,) = result.duels
    ours, theirs = (losses[step - 1] for losses in duel.losses)
    assert duel.first_different_step == step
    assert 0 < abs(ours - theirs) <= duel.largest_difference
    assert result.verdict.startswith(
        f"losses part at step {step} by {abs(ours - theirs):.1g}; test/accuracy differs by "
    )


def test_losses_that_are_no_numbers_are_told(short, tmp_path):
    def diverging_lenet5(**arguments):
        network = create_model("lenet5", **arguments)
        with torch.no_grad():
            network.c1.weight.fill_(math.nan)
        return network

    broken = Side("broken", diverging_lenet5)
    result = train_duels(broken, broken, replace(short, steps=2), tmp_path)
    assert result.verdict == "identical losses in all 2 steps of 1 seed, but nan from step 1"


def test_figures_over_seeds(short, kept):
    result = train_duels(side("lenet5"), Side("dropping", dropping_lenet5), replace(short, seeds=3), kept)
    assert [duel.seed for duel in result.duels] == [0, 1, 2]
    for summary in result.metrics:
        ours, theirs = np.array([duel.metrics[summary.name] for duel in result.duels]).T
        interval = ttest_rel(ours, theirs).confidence_interval(0.95)
        assert summary.ours == pytest.approx((ours.mean(), ours.std(ddof=1)))
        assert summary.theirs == pytest.approx((theirs.mean(), theirs.std(ddof=1)))
        assert summary.difference.median == pytest.approx((ours - theirs).mean())
        assert (summary.difference.low, summary.difference.high) == pytest.approx((interval.low, interval.high))


def test_after_an_interruption_only_the_interrupted_run_is_trained(equal, short, tmp_path, monkeypatch):
    steps, training_step = [], ClassificationTask.training_step

    def fail_once(task, batch, batch_idx):
        steps.append(batch_idx)
        if len(steps) == STEPS + 3:  # within the second run
            raise KeyboardInterrupt
        return training_step(task, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", fail_once)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
            train_duels(side("lenet5"), reference_of("lenet5"), short, tmp_path)
    finally:
        signal.signal(signal.SIGINT, interrupt)  # which Lightning ignores after the first
    done = len(steps)
    resumed = train_duels(side("lenet5"), reference_of("lenet5"), short, tmp_path)
    assert len(steps) - done == STEPS
    assert resumed.duels[0].losses == equal.duels[0].losses
    assert resumed.duels[0].metrics == equal.duels[0].metrics


def test_arguments_that_one_side_lacks_are_left_out_of_both_and_named(short, tmp_path):
    recipe = tmp_path / "dropping.yaml"
    recipe.write_text(
        Path(short.config).read_text().replace("name: lenet5", "name: lenet5\n    model_args: {drop_rate: 0.3}")
    )
    settings = replace(short, config=str(recipe), steps=2)
    dropping = train_duels(side("lenet5"), side("timm/lenet5"), settings, tmp_path / "both")
    plain = train_duels(side("lenet5"), Side("plain", plain_lenet5), settings, tmp_path / "one")
    assert dropping.verdict == "identical losses in all 2 steps of 1 seed"
    assert plain.verdict == f"{dropping.verdict}; without drop_rate, which plain does not take"
    assert plain.duels[0].losses != dropping.duels[0].losses


def test_the_process_is_left_as_it_was(short, tmp_path):
    def state():
        return torch.get_rng_state().tolist(), torch.get_num_threads(), dict(os.environ)

    before = state()
    train_duels(side("lenet5"), side("lenet5"), replace(short, steps=1), tmp_path)
    assert state() == before


def test_the_runs_share_a_group_in_wandb(short, tmp_path, capfd):
    with session(clean_environment(tmp_path / "home")):
        result = train_duels(side("lenet5"), side("timm/lenet5"), short, tmp_path / "duels", wandb="offline")
    logs = [WandbLog(path) for path in sorted(tmp_path.glob("duels/*/attempt-1/wandb/offline-run-*/run-*.wandb"))]
    assert [log.group for log in logs] == ["lenet5 against timm/lenet5"] * 2
    assert [log.job_type for log in logs] == ["ours", "theirs"]
    assert [log.config["duel"]["label"] for log in logs] == ["lenet5", "timm/lenet5"]
    assert [log.summary["test/accuracy"] for log in logs] == list(result.duels[0].metrics["test/accuracy"])
    assert [log.exit_codes for log in logs] == [[0], [0]]
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------------- mistakes


class Reconstruction(Task):
    """No classification."""

    def training_step(self, batch, batch_idx):
        return self(batch["image"]).mean()


class Mute(nn.Flatten):
    """No tensor comes out."""

    def forward(self, x):
        return {"logits": super().forward(x)}


FOLDER = "data: {class_path: ImageFolderDataModule, init_args: {root: nowhere, image_size: 32}}"
MISTAKES = {
    "no recipe at configs/lenet.yaml; did you mean 'configs/lenet5.yaml'": ("configs/lenet.yaml", None),
    "unknown key 'model.optim.lrr'; did you mean 'model.optim.lr'?": ("lr: 5.0e-3", "lrr: 5.0e-3"),
    "a duel needs a ClassificationTask": ("ClassificationTask", f"{__name__}.Reconstruction"),
    "nowhere": ("data:.*trainer:", f"{FOLDER}\ntrainer:"),
}


@pytest.mark.parametrize(("mistake", "change"), MISTAKES.items(), ids=range(len(MISTAKES)))
def test_mistakes_in_the_recipe_are_told_in_a_line(short, tmp_path, monkeypatch, configs, mistake, change):
    monkeypatch.chdir(configs.parent)
    old, new = change
    config = tmp_path / "recipe.yaml"
    config.write_text(re.sub(old, new or "", Path(short.config).read_text(), flags=re.DOTALL))
    settings = replace(short, config=str(config) if new else old)
    with pytest.raises(UserError) as error:
        train_duels(side("lenet5"), side("timm/lenet5"), settings, tmp_path)
    assert mistake in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("network", "mistake"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(1024, 3)), "puts out 3 numbers an image, but DigitsDataModule has 10"),
        (nn.Conv2d(3, 8, 3), "Conv2d fails on images of 1x32x32: RuntimeError: Given groups=1"),
        (Mute(), "Mute returns dict, where a training duel needs a tensor"),
        (nn.Flatten(), "the weights do not fit both networks: c1.bias (6,) is in one only, 10 in all"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_networks_that_do_not_fit_are_told_in_a_line(short, tmp_path, network, mistake):
    ours, theirs = (side("lenet5"), side(network)) if type(network) is nn.Flatten else (side(network), side(network))
    with pytest.raises(UserError) as error:
        train_duels(ours, theirs, short, tmp_path)
    assert mistake in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_weights_may_be_exchanged_in_another_way(short, tmp_path):
    """Here the exchange leaves out what it should bring: the losses part at once."""
    half = train_duels(
        side("lenet5"), side("timm/lenet5"), replace(short, steps=1), tmp_path, exchange=lambda a, b: None
    )
    assert half.duels[0].first_different_step == 1
