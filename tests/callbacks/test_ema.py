"""The moving average of the weights, against its closed form and against Lightning's resuming."""

import copy
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn

from cnnbench import EMA, ClassificationTask, DigitsDataModule, OptimConfig
from cnnbench.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")

DECAY = 0.8


class Observer(Callback):
    """Copies the weights after each step, and those that are validated."""

    def __init__(self):
        self.raw, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step > len(self.raw):
            self.raw.append(weights(pl_module))

    def on_validation_batch_start(self, trainer, pl_module, *args):
        self.validated.append(weights(pl_module))


def weights(task):
    return copy.deepcopy(dict(task.network.state_dict()))


def averages(raw, decays):
    """The average after each step, from the weights after it: it begins as the first."""
    average, course = dict(raw[0]), [raw[0]]
    for after, decay in zip(raw[1:], decays, strict=True):
        average = {
            key: decay * average[key] + (1 - decay) * value if value.is_floating_point() else value
            for key, value in after.items()
        }
        course.append(average)
    return course


class InMemory(TorchCheckpointIO):
    """Keeps checkpoints as they were when they were saved."""

    def __init__(self):
        self.saved = {}

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.saved[Path(path).stem] = copy.deepcopy(checkpoint)

    def load_checkpoint(self, path, *args, **kwargs):
        return copy.deepcopy(self.saved[Path(path).stem])


def small_network(num_classes, in_chans, **_):
    layers = (nn.Conv2d(in_chans, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(4, num_classes))


def fit(tmp_path, *callbacks, io=None, ckpt_path=None, task_options=(), **options):
    """Train for six steps, three an epoch, saving after each where there is somewhere to."""
    pl.seed_everything(0, verbose=False)
    optim = OptimConfig(optimizer="sgd", lr=0.1, sched="none")
    task = ClassificationTask("lenet5", optim=optim, **dict(task_options))
    task.create_network = small_network
    if io is not None:
        callbacks += (ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1),)
        options["plugins"] = [io]
    checkpoints = options.pop("enable_checkpointing", io is not None)
    options = {"max_epochs": 2, "limit_train_batches": 3, "limit_val_batches": 1, "accelerator": "cpu"} | options
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        default_root_dir=tmp_path, callbacks=list(callbacks), enable_checkpointing=checkpoints,
        num_sanity_val_steps=0, **quiet, **options,
    )  # fmt: skip
    trainer.fit(task, DigitsDataModule(batch_size=16, image_size=8), ckpt_path=ckpt_path)
    return task


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of six steps, validated after three and at its end, with a checkpoint of each step."""
    observer, io = Observer(), InMemory()
    task = fit(tmp_path_factory.mktemp("ema"), EMA(DECAY), observer, io=io)
    return task, observer, io


def saved(io):
    return [io.saved[f"step={step}"] for step in range(1, 7)]


def part(checkpoint, key):
    return {name.removeprefix("network."): value for name, value in checkpoint[key].items()}


def close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-5, atol=1e-6)


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_it_is_the_closed_form_in_every_checkpoint_from_the_first_step_on(run):
    _, observer, io = run
    for checkpoint, average in zip(saved(io), averages(observer.raw, [DECAY] * 5), strict=True):
        close(part(checkpoint, "state_dict"), average)


def test_the_optimisers_weights_are_saved_beside_it(run):
    _, observer, io = run
    for checkpoint, raw in zip(saved(io), observer.raw, strict=True):
        assert same(part(checkpoint, "current_model_state"), raw)


def test_validation_is_of_the_average_and_training_goes_on_with_the_weights(run, tmp_path):
    _, observer, io = run
    first, last = observer.validated
    assert same(first, part(io.saved["step=3"], "state_dict"))
    assert same(last, part(io.saved["step=6"], "state_dict"))
    alone = Observer()
    fit(tmp_path, alone)
    assert same(alone.raw[-1], observer.raw[-1])


class SavesWithinValidation(Callback):
    def on_validation_batch_end(self, trainer, *args):
        trainer.save_checkpoint(f"validating-{trainer.global_step}.ckpt")


def test_a_checkpoint_from_within_validation_holds_the_same(run, tmp_path):
    _, _, io = run
    within = InMemory()
    fit(tmp_path, EMA(DECAY), SavesWithinValidation(), plugins=[within])
    for key in ("state_dict", "current_model_state"):
        assert same(within.saved["validating-3"][key], io.saved["step=3"][key])


def test_training_ends_with_the_average_in_the_network(run):
    task, _, io = run
    assert same(dict(task.network.state_dict()), part(io.saved["step=6"], "state_dict"))


def test_a_resumed_run_goes_on_to_the_last_bit(run, tmp_path):
    _, _, io = run
    again = InMemory()
    again.saved["step=3"] = io.saved["step=3"]
    fit(tmp_path, EMA(DECAY), io=again, ckpt_path="step=3.ckpt")
    for key in ("state_dict", "current_model_state"):
        assert same(again.saved["step=6"][key], io.saved["step=6"][key])


def test_a_step_of_several_batches_counts_once(tmp_path):
    observer = Observer()
    options = {"accumulate_grad_batches": 2, "limit_train_batches": 6, "max_epochs": 1}
    task = fit(tmp_path, EMA(DECAY), observer, **options)
    assert len(observer.raw) == 3
    close(weights(task), averages(observer.raw, [DECAY] * 2)[-1])


def test_warmup_keeps_less_of_early_steps(tmp_path):
    observer = Observer()
    task = fit(tmp_path, EMA(0.9, warmup=True), observer)
    close(weights(task), averages(observer.raw, [1 - (1 + step) ** (-2 / 3) for step in range(1, 6)])[-1])


def test_buffers_may_be_those_of_the_last_step(tmp_path):
    observer = Observer()
    task = fit(tmp_path, EMA(DECAY, use_buffers=False), observer)
    last, average = observer.raw[-1], averages(observer.raw, [DECAY] * 5)[-1]
    buffers = [name for name, _ in task.network.named_buffers()]
    assert len(buffers) == 3
    close(weights(task), average | {name: last[name] for name in buffers})


def test_small_steps_are_not_rounded_away_in_bfloat16(tmp_path):
    io = InMemory()
    fit(tmp_path, EMA(0.999), io=io, precision="bf16-true")
    state = io.saved["step=6"]["state_dict"]
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    raw = io.saved["step=6"]["current_model_state"]
    assert {value.dtype for value in raw.values() if value.is_floating_point()} == {torch.bfloat16}


def test_a_compiled_network_in_channels_last_is_saved_under_its_own_names(tmp_path, run, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    io = InMemory()
    fit(tmp_path, EMA(DECAY), io=io, task_options={"compile": True, "channels_last": True})
    ours, theirs = io.saved["step=6"], run[2].saved["step=6"]
    for key in ("state_dict", "current_model_state"):
        close(ours[key], theirs[key])


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(UserError, match=r"decay of EMA is .*, but must be above 0 and below 1"):
        EMA(decay)


def test_a_checkpoint_of_weights_alone_is_refused(tmp_path):
    alone = ModelCheckpoint(tmp_path, save_weights_only=True)
    with pytest.raises(UserError, match="save_weights_only"):
        fit(tmp_path, EMA(), alone, enable_checkpointing=True)
