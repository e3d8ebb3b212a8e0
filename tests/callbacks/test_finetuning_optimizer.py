"""Fine-tuning and the optimiser: rates, and state that outlives unfreezing, resuming and other processes."""

import os
import subprocess
import sys

import pytest
import torch
from finetuning_runs import STAGES, changed, fit, stage_of
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from cnnbench import Finetuning
from cnnbench.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")


class Recorder(Callback):
    """Keeps the learning rate and weight decay of every parameter at every step."""

    def __init__(self):
        self.steps = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        names = {parameter: name for name, parameter in pl_module.network.named_parameters()}
        self.steps.append({names[p]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]})


@pytest.mark.parametrize("sched", ["constant", "none", "cosine"])
def test_rates_are_by_stage_and_norms_do_not_decay(tmp_path, weights, sched):
    recorder = Recorder()
    finetuning = Finetuning("discriminative", lr_decay=0.5)
    task, trainer = fit(tmp_path, weights, finetuning, recorder, max_epochs=2, optim={"sched": sched})
    for step, groups in enumerate(recorder.steps):
        full = 0.1 * (0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / 6))).item() if sched == "cosine" else 1)
        for key, parameter in task.network.named_parameters():
            distance = 0 if stage_of(key) == "fc" else 5 - STAGES.index(stage_of(key))
            assert groups[key] == (pytest.approx(full * 0.5**distance), 0.01 if parameter.ndim > 1 else 0)
    assert trainer.callback_metrics["train/lr"] == pytest.approx(recorder.steps[-1]["fc.weight"][0])


def test_the_optimizers_state_survives_unfreezing(tmp_path, weights):
    """Adam counts the steps of each parameter: the classifier's go on, a stage's begin with it."""
    optim = {"optimizer": "adamw", "lr": 1e-3}
    task, trainer = fit(tmp_path, weights, Finetuning("gradual"), max_epochs=3, optim=optim)
    state = trainer.optimizers[0].state
    steps = {key: state[p]["step"].item() if p in state else 0 for key, p in task.network.named_parameters()}
    expected = {"fc": 9, "layer4": 6, "layer3": 3}
    assert steps == {key: expected.get(stage_of(key), 0) for key in steps}


@pytest.mark.parametrize("after_validation", [True, False])
def test_a_run_resumed_amid_unfreezing_ends_bit_identical(tmp_path, weights, after_validation):
    def keep(folder):
        return ModelCheckpoint(
            *(tmp_path / folder, "{epoch}"), save_top_k=-1, save_on_train_epoch_end=not after_validation
        )

    options = {"max_epochs": 4, "optim": {"optimizer": "adamw", "lr": 1e-3, "sched": "cosine"}}
    whole = fit(tmp_path / "1", weights, Finetuning("gradual", lr_decay=0.5), keep("whole"), **options)
    resumed = fit(
        *(tmp_path / "2", weights, Finetuning("gradual", lr_decay=0.5), keep("resumed")),
        ckpt_path=tmp_path / "whole/epoch=1.ckpt",
        **options,
    )
    ours, theirs = (torch.load(tmp_path / f / "epoch=3.ckpt", weights_only=True) for f in ("whole", "resumed"))
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0)
    assert changed(whole[0], weights) == changed(resumed[0], weights) == set(STAGES[2:])


def test_to_resume_with_another_strategy_is_refused(tmp_path, weights):
    keep = ModelCheckpoint(tmp_path, filename="last")
    fit(tmp_path, weights, Finetuning("gradual"), keep)
    with pytest.raises(UserError, match=r"last\.ckpt was trained with unfreeze_every 1 of Finetuning, not 2"):
        fit(tmp_path, weights, Finetuning("gradual", unfreeze_every=2), ckpt_path=tmp_path / "last.ckpt", max_epochs=2)


# Lightning starts the program that calls it once more, for the second process.
TWO_PROCESSES = """
import sys

import lightning.pytorch as pl
import torch

from cnnbench import ClassificationTask, DigitsDataModule, Finetuning, OptimConfig

path, weights = sys.argv[1:]
small = {"channels": (8, 16, 24, 32), "layers": (1, 1, 1, 1)}
task = ClassificationTask("resnet18", weights=weights, model_args=small, optim=OptimConfig("sgd", lr=0.1))
trainer = pl.Trainer(
    callbacks=[Finetuning("gradual")], max_epochs=3, limit_val_batches=1, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, accelerator="cpu", devices=2, strategy="ddp",
)
trainer.fit(task, DigitsDataModule(batch_size=5, classes=[5, 6], images_per_class=10))
torch.save(task.network.state_dict(), f"{path}/{trainer.global_rank}.pth")
"""


@pytest.mark.slow
def test_the_processes_of_a_run_unfreeze_together(tmp_path, weights):
    """DDP averages the gradients of what needed one when it was created; what unfreezes later must be among them."""
    (tmp_path / "program.py").write_text(TWO_PROCESSES)
    words = [sys.executable, tmp_path / "program.py", tmp_path, weights]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    ours, theirs, before = (
        torch.load(path, weights_only=True) for path in (tmp_path / "0.pth", tmp_path / "1.pth", weights)
    )
    for key in ("fc.weight", "layer4.0.conv1.weight", "layer3.0.conv1.weight"):
        assert torch.equal(ours[key], theirs[key])
    assert not torch.equal(ours["layer3.0.conv1.weight"], before["layer3.0.conv1.weight"])
    assert torch.equal(ours["layer2.0.conv1.weight"], before["layer2.0.conv1.weight"])
