"""A small resnet18 that is fine-tuned, and what of it has changed."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from cnnbench import ClassificationTask, DigitsDataModule, OptimConfig

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
