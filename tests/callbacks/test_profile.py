"""Phases of a step, by a clock that the test moves."""

import pytest
import torch

from cnnbench.callbacks import profile
from cnnbench.callbacks.profile import StepProfiler

NEXT = "[_TrainingEpochLoop].train_dataloader_next"
OPTIMIZER = "[LightningModule]Task.optimizer_step"


@pytest.fixture
def clock(monkeypatch):
    """A list of one number, the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(profile.time, "perf_counter", lambda: now[0])
    return now


def step(profiler, clock):
    def spend(name, seconds):
        with profiler.profile(name):
            clock[0] += seconds

    spend(NEXT, 1)
    spend("[LightningDataModule]Data.transfer_batch_to_device", 2)
    spend("[LightningDataModule]Data.on_after_batch_transfer", 4)
    with profiler.profile("run_training_batch"), profiler.profile(OPTIMIZER):
        clock[0] += 8
        spend("[Strategy]S.training_step", 16)
        spend("[Strategy]S.backward", 32)
        spend("[LightningModule]Task.on_before_optimizer_step", 64)
    spend("[Callback]Some.on_train_batch_end", 128)
    clock[0] += 256


def test_time_belongs_to_the_innermost_phase(tmp_path, clock):
    profiler = StepProfiler(tmp_path / "trace.json", torch.device("cpu"), warmup=1, timed=2, traced=1)
    assert profiler.steps == 5
    for _ in range(profiler.steps):
        step(profiler, clock)
    milliseconds = {phase: each for phase, each, _ in profiler.table()}
    assert milliseconds == {
        **{"data": 1000, "transfer": 2000, "augmentation": 4000, "forward": 16000, "backward": 32000},
        **{"optimiser": 72000, "the rest": 384000, "step": 511000},
    }
    assert [share for *_, share in profiler.table()][-1] == 1
    assert (tmp_path / "trace.json").is_file()
