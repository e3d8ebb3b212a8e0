"""Fine-tuning against what it promises: what changes, what stays to the last bit, rates, and resuming."""

import os
import re
import subprocess
import sys
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from cnnbench import ClassificationTask, DigitsDataModule, Finetuning, OptimConfig, create_model
from cnnbench.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = {"channels": (8, 16, 24, 32), "layers": (1, 1, 1, 1)}
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")


class UnshuffledDigits(DigitsDataModule):
    """Fifteen images in three batches, always the same: what a resumed run sees does not depend on its epoch."""

    def __init__(self):
        super().__init__(batch_size=5, classes=[5, 6, 7], images_per_class=5)

    def train_dataloader(self):
        return DataLoader(self.datasets["train"], batch_size=self.batch_size, collate_fn=self.datasets["train"].collate)


class AllAtOnce(UnshuffledDigits):
    def __init__(self):
        super().__init__()
        self.batch_size = 15


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights whose BatchNorm statistics are not those of the start."""
    torch.manual_seed(1)
    network = create_model("resnet18", num_classes=4, in_chans=1, **SMALL)
    network(torch.randn(16, 1, 32, 32))
    path = tmp_path_factory.mktemp("weights") / "pretrained.pth"
    torch.save(network.state_dict(), path)
    return path


class Recorder(Callback):
    """Keeps the learning rate and weight decay of every parameter at every step."""

    def __init__(self):
        self.steps = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        names = {parameter: name for name, parameter in pl_module.network.named_parameters()}
        self.steps.append({names[p]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]})


def fit(
    tmp_path,
    weights,
    finetuning,
    *callbacks,
    data=UnshuffledDigits,
    ckpt_path=None,
    source="cnnbench",
    compile=False,
    **options,
):
    """Return the task and the Trainer of a run, its rows of figures below `tmp_path`."""
    pl.seed_everything(0, verbose=False)
    optim = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.01, "sched": "constant"} | options.pop("optim", {})
    task = ClassificationTask(
        "resnet18", source, weights=str(weights), compile=compile, model_args=SMALL, optim=OptimConfig(**optim)
    )
    options = {"max_epochs": 1, "log_every_n_steps": 1, "accelerator": "cpu", "limit_val_batches": 1} | options
    trainer = pl.Trainer(
        callbacks=[finetuning, *callbacks],
        logger=CSVLogger(tmp_path, name="", version=""),
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(task, data(), ckpt_path=ckpt_path)
    return task, trainer


def stage_of(key):
    """The stage that a tensor of a ResNet belongs to, by its name."""
    first = key.partition(".")[0]
    return "stem" if first in ("conv1", "bn1") else first


def changed(task, weights):
    """The stages in which all parameters or statistics differ from the file; the others must be as they were."""
    before = torch.load(weights, weights_only=True)
    after = task.network.state_dict()
    differs = {}
    for key, value in after.items():
        if stage_of(key) != "fc":
            differs.setdefault(stage_of(key), set()).add(not torch.equal(value, before[key]))
    assert all(len(kinds) == 1 for kinds in differs.values())  # all of it, norms and their statistics too, or nothing
    return {stage for stage, kinds in differs.items() if kinds == {True}}


def count(task, *parts):
    return sum(p.numel() for key, p in task.network.named_parameters() if stage_of(key) in parts)


@pytest.mark.parametrize("source", ["cnnbench", "timm"])
@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({"strategy": "feature_extraction"}, ()),
        ({"strategy": "last_stages"}, STAGES[4:]),
        ({"strategy": "last_stages", "stages": 3}, STAGES[2:]),
        ({"strategy": "last_stages", "stages": 5}, STAGES),
        ({"strategy": "discriminative"}, STAGES),
        ({"strategy": "gradual"}, STAGES[4:]),
        ({"strategy": "gradual", "unfreeze_every": 2}, ()),
        ({"strategy": "gradual", "stages": 1}, STAGES[4:]),
    ],
)
def test_what_is_frozen_stays_to_the_last_bit_and_the_rest_learns(tmp_path, weights, source, options, trained):
    task, trainer = fit(tmp_path, weights, Finetuning(**options), source=source, max_epochs=2)
    assert changed(task, weights) == set(trained)
    assert trainer.callback_metrics["train/trainable_parameters"] == count(task, *trained, "fc")


def test_feature_extraction_is_a_linear_layer_on_the_features_of_evaluation(tmp_path, weights):
    """One step by hand, on features that the statistics of the file have normalised."""
    finetuning = Finetuning("feature_extraction")
    task, _ = fit(tmp_path, weights, finetuning, data=AllAtOnce, optim={"optimizer": "momentum", "weight_decay": 0.0})
    pl.seed_everything(0, verbose=False)
    backbone = create_model("resnet18", num_classes=3, in_chans=1, weights=weights, **SMALL).eval()
    data = AllAtOnce()
    data.setup()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    with torch.no_grad():
        features = backbone.forward_head(backbone.forward_features(batch["image"]), pre_logits=True)
    loss = F.cross_entropy(backbone.fc(features), batch["label"])
    gradient = torch.autograd.grad(loss, backbone.fc.weight)[0]
    torch.testing.assert_close(task.network.fc.weight, backbone.fc.weight - 0.1 * gradient)


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


def test_gradual_unfreezing_is_printed_and_logged_at_every_change(tmp_path, weights, capsys):
    task, _ = fit(tmp_path, weights, Finetuning("gradual", stages=2, unfreeze_every=2), max_epochs=7)
    expected = [count(task, *STAGES[5 - n :], "fc") for n in (0, 0, 1, 1, 2, 2, 2)]
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train/trainable_parameters")
    assert [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]] == expected
    printed = re.findall(r"^trained  (\S+) of (\S+) parameters: (.*)$", capsys.readouterr().out, re.MULTILINE)
    total = f"{count(task, *STAGES, 'fc'):,}"
    assert printed == [
        (f"{expected[0]:,}", total, "fc"),
        (f"{expected[2]:,}", total, "fc, layer4"),
        (f"{expected[4]:,}", total, "fc, layer4, layer3"),
    ]


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
    assert_identical(ours["state_dict"], theirs["state_dict"])
    assert_identical(ours["optimizer_states"], theirs["optimizer_states"])
    assert changed(whole[0], weights) == changed(resumed[0], weights) == set(STAGES[2:])


def test_a_compiled_network_unfreezes(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    task, _ = fit(tmp_path, weights, Finetuning("gradual"), max_epochs=2, compile=True)
    assert changed(task, weights) == {"layer4"}


def test_a_second_run_of_one_task_begins_anew(tmp_path, weights):
    task, _ = fit(tmp_path, weights, Finetuning("feature_extraction"))
    trainer = pl.Trainer(
        callbacks=[Finetuning("last_stages")],
        enable_checkpointing=False,
        logger=False,
        enable_progress_bar=False,
        accelerator="cpu",
        max_epochs=1,
    )
    trainer.fit(task, UnshuffledDigits())
    assert changed(task, weights) == {"layer4"}


def assert_identical(ours, theirs):
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_identical(ours[key], theirs[key])
    elif isinstance(ours, (list, tuple)):
        for mine, yours in zip(ours, theirs, strict=True):
            assert_identical(mine, yours)
    else:
        assert ours == theirs


def test_to_resume_with_another_strategy_is_refused(tmp_path, weights):
    keep = ModelCheckpoint(tmp_path, filename="last")
    fit(tmp_path, weights, Finetuning("gradual"), keep)
    with pytest.raises(UserError, match=r"last\.ckpt was trained with unfreeze_every 1 of Finetuning, not 2"):
        fit(tmp_path, weights, Finetuning("gradual", unfreeze_every=2), ckpt_path=tmp_path / "last.ckpt", max_epochs=2)


def test_a_head_that_is_not_there_cannot_be_trained(tmp_path, weights):
    """A strategy that would freeze everything."""
    task = ClassificationTask("resnet18", num_classes=3, in_chans=1, model_args=SMALL)
    task.network.reset_classifier(0)
    trainer = pl.Trainer(
        callbacks=[Finetuning("feature_extraction")],
        enable_checkpointing=False,
        logger=False,
        enable_progress_bar=False,
        accelerator="cpu",
    )
    with pytest.raises(UserError, match="resnet18 has no classifier to train"):
        trainer.fit(task, UnshuffledDigits())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"strategy": "gradul"}, "unknown strategy 'gradul' of Finetuning; did you mean 'gradual'"),
        ({"strategy": "feature_extraction", "stages": 2}, "takes no stages, last_stages or gradual does"),
        ({"strategy": "last_stages", "stages": 0}, "stages is 0, but must be at least 1; for the classifier alone"),
        ({"strategy": "gradual", "unfreeze_every": 0}, "unfreeze_every is 0, but must be at least 1"),
        ({"strategy": "discriminative", "lr_decay": 0.0}, "lr_decay is 0.0, but must be above 0 and at most 1"),
    ],
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(UserError, match=named):
        Finetuning(**options)


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
