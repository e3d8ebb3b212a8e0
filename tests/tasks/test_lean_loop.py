"""The lean loop against Lightning's own, of the version that is installed: every call, every counter, every bit."""

import gc
import multiprocessing
from functools import wraps

import pytest
import torch
from lean_modules import (
    ByHand,
    EndsEpoch,
    GivesNone,
    NoLength,
    OnlyTheBatch,
    OwnStep,
    Quiet,
    Skips,
    TakesIterator,
    TwoLoaders,
)
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor
from torch.utils.data import DataLoader

from cnnbench.callbacks.metrics_file import MetricsFile, read_rows
from cnnbench.tasks.lean_loop import LeanEpochLoop, use_lean_loop

CALLED = (  # of a module in training, beside those that begin with `on_`
    *("backward", "optimizer_zero_grad", "configure_gradient_clipping", "lr_scheduler_step"),
    *("transfer_batch_to_device", "training_step", "validation_step"),
)


def plain(value):
    """Return what can be compared, of anything that a hook is given."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, int | float | str | None) else type(value).__name__


def recorded(base, who, names):
    """Return a subclass of a callback or a module that notes each call of these methods in `calls`."""

    def noting(name):
        @wraps(getattr(base, name))  # Lightning looks at the arguments that a training step has
        def method(self, *args, **kwargs):
            trainer = args[0] if args and isinstance(args[0], Trainer) else self._trainer
            if trainer is not None:
                connector = trainer._logger_connector
                logged = (connector._callback_metrics, connector._logged_metrics, connector._progress_bar_metrics)
                running = trainer.lightning_module and trainer.lightning_module._current_fx_name
                where = (
                    trainer.fit_loop.state_dict() if who == "callback" else None,
                    plain(logged),
                    torch.is_grad_enabled(),
                )
                self.calls.append((who, name, running, plain(args), plain(kwargs), where))
            return getattr(super(kind, self), name)(*args, **kwargs)

        return method

    kind = type(f"Recorded{base.__name__}", (base,), {name: noting(name) for name in names})
    return kind


class Stops(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.global_step == 9


class Saves(Callback):
    """Saves before a batch, and after one."""

    def __init__(self, directory):
        self.directory = directory

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx == 4:
            trainer.save_checkpoint(self.directory / "before.ckpt")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx == 9:
            trainer.save_checkpoint(self.directory / "after.ckpt")


def train(directory, lean, module=Quiet, callbacks=(), ckpt_path=None, schedule="step", recording=True, **settings):
    """Return all that two runs could differ in: what hooks saw, the weights, `metrics.csv` and the checkpoints."""
    calls = []
    hooks = [name for name in dir(Callback) if name.startswith("on_")]
    of_module = [name for name in dir(module) if name.startswith("on_") or name in CALLED]
    recorder = recorded(Callback, "callback", hooks)()
    recorder.calls = calls
    torch.manual_seed(0)
    task = (recorded(module, "module", of_module) if recording else module)(calls, schedule)
    settings = {"max_epochs": 2, "log_every_n_steps": 3, "num_sanity_val_steps": 1} | settings
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[Callback(), *([recorder] if recording else []), *[make() for make in callbacks], Saves(directory)],
        logger=MetricsFile(directory),
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        **settings,
    )
    if lean:
        use_lean_loop(trainer)
    assert isinstance(trainer.fit_loop.epoch_loop, LeanEpochLoop) is lean
    trainer.fit(task, ckpt_path=ckpt_path, weights_only=True)
    trainer.save_checkpoint(directory / "end.ckpt")
    files = {file.name: torch.load(file, weights_only=True) for file in sorted(directory.glob("*.ckpt"))}
    return (
        calls,
        read_rows(directory),
        plain(files),
        trainer.global_step,
        vars(trainer.precision_plugin),
    )


def half_precision():
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0))


KINDS = {
    "plain": {},
    "inherited hooks": {"recording": False},
    "accumulation, clipped": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
    "validations": {"val_check_interval": 2},
    "validations over epochs": {"val_check_interval": 5, "check_val_every_n_epoch": None},
    "every other epoch": {"check_val_every_n_epoch": 2},
    "steps": {"max_steps": 11, "max_epochs": -1, "accumulate_grad_batches": 2},
    "limited": {"limit_train_batches": 4, "limit_val_batches": 1},
    "no logging": {"log_every_n_steps": 0},
    "fast_dev_run": {"fast_dev_run": 3},
    "stops": {"callbacks": (Stops,)},
    "plateau": {"schedule": "plateau"},
    "a schedule by epochs": {"schedule": "epoch"},
    "bfloat16": {"precision": "bf16-mixed"},
    "scaled gradients": {"plugins": half_precision, "gradient_clip_val": 0.1},
    "weight averaging": {
        "callbacks": (lambda: StochasticWeightAveraging(0.01, swa_epoch_start=1, annealing_epochs=1),)
    },
    "only the batch": {"module": OnlyTheBatch},
    "own step": {"module": OwnStep},
    "skips": {"module": Skips},
    "skips, accumulated": {"module": Skips, "accumulate_grad_batches": 2, "recording": False},
    "ends the epoch": {"module": EndsEpoch},
    "gives None": {"module": GivesNone},
    "by hand": {"module": ByHand},
    "two loaders": {"module": TwoLoaders},
    "no length": {"module": NoLength, "schedule": "epoch"},
    "float64": {"precision": "64-true"},
    "takes the iterator": {"module": TakesIterator, "schedule": "epoch"},
    "profiler": {"profiler": "simple"},
}


QUICK = (
    "plain",
    "two loaders",
    "no length",
    "accumulation, clipped",
    "validations",
    "steps",
    "bfloat16",
    "ends the epoch",
    "own step",
)


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_it_does_what_lightnings_does(kind, tmp_path):
    results = []
    for lean in (False, True):
        settings = dict(KINDS[kind])
        if "plugins" in settings:
            settings["plugins"] = [settings["plugins"]()]
        (tmp_path / str(lean)).mkdir()
        results.append(train(tmp_path / str(lean), lean, **settings))
    check_same(*results)


class Names(LightningDataModule):
    """Notes under which name each of its hooks runs."""

    def __init__(self, workers=0):
        super().__init__()
        self.names, self.workers = [], workers

    def train_dataloader(self):
        return DataLoader(Quiet([]).train_dataloader().dataset, batch_size=4, num_workers=self.workers)

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return self.note(batch)

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return self.note(batch)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return self.note(batch)

    def note(self, batch):
        self.names.append(self.trainer.lightning_module._current_fx_name)
        return batch


def fit_with(data, lean):
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, limit_train_batches=2, limit_val_batches=0, **quiet)
    if lean:
        use_lean_loop(trainer)
    trainer.fit(Quiet([]), data)


def test_hooks_of_a_data_module_run_under_lightnings_names():
    lightnings, lean = Names(), Names()
    fit_with(lightnings, lean=False)
    fit_with(lean, lean=True)
    assert lean.names == lightnings.names == 2 * [None, "batch_to_device", "batch_to_device"]


def test_no_worker_outlives_training():
    fit_with(Names(workers=1), lean=True)
    gc.collect()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("accumulated", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("name", ["before", pytest.param("after", marks=pytest.mark.slow)])
def test_it_goes_on_as_lightnings_does(name, accumulated, tmp_path):
    settings = {"accumulate_grad_batches": accumulated, "val_check_interval": 3}
    (tmp_path / "first").mkdir()
    train(tmp_path / "first", lean=False, **settings)
    results = []
    for lean in (False, True):
        (tmp_path / str(lean)).mkdir()
        results.append(train(tmp_path / str(lean), lean, ckpt_path=tmp_path / f"first/{name}.ckpt", **settings))
    check_same(*results)


def check_same(lightning, lean):
    for expected, found in zip(lightning[0], lean[0], strict=False):
        assert found == expected
    assert len(lean[0]) == len(lightning[0])
    assert lean[1:-1] == lightning[1:-1]
    assert lean[-1].keys() == lightning[-1].keys()  # nothing of the loop stays in the plugin
