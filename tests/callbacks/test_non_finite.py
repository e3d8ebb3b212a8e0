"""A loss that is lost ends training; the message names where, and the checkpoints from before it stay good."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from cnnbench import EMA, ClassificationTask, DigitsDataModule, OptimConfig, StopOnNonFinite
from cnnbench.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")


class Breaks(ClassificationTask):
    """Its loss is bad at these batches; whether the weights go with it is told apart."""

    bad, value, spoils = (), float("nan"), True

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if self.trainer.fit_loop.total_batch_idx not in self.bad:
            return loss
        return loss * self.value if self.spoils else loss + self.value  # the gradient of a sum stays as it is


class Batches(Callback):
    def __init__(self):
        self.indices, self.rates = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.indices.append(batch["index"].tolist())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def run(tmp_path, *callbacks, bad=(), spoils=False, value=float("nan"), **options):
    pl.seed_everything(0, verbose=False)
    task = Breaks("lenet5", optim=OptimConfig(optimizer="sgd", lr=0.1, sched="cosine"))
    task.bad, task.spoils, task.value = bad, spoils, value
    batches = Batches()
    options = {"max_epochs": 2, "limit_train_batches": 10, "limit_val_batches": 1, "accelerator": "cpu"} | options
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[*callbacks, batches], **quiet, **options)
    trainer.fit(task, DigitsDataModule(batch_size=4))
    return batches


def stopped(tmp_path, *callbacks, **options):
    with pytest.raises(UserError) as caught:
        run(tmp_path, *callbacks, **options)
    return str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("every", [1, 3, 50])
def test_it_names_step_rate_norm_and_images_however_rarely_it_looks(tmp_path, every, value):
    message = stopped(
        tmp_path, StopOnNonFinite(3), bad=range(4, 20), value=value, log_every_n_steps=every, enable_checkpointing=False
    )
    straight = run(tmp_path, enable_checkpointing=False)
    assert message.startswith("the loss is not finite since step 4, for 3 batches in a row: there is no checkpoint")
    assert f"learning rate {straight.rates[6]:g}, gradient norm when last logged" in message
    assert message.endswith("of step 6 holds the training images " + ", ".join(map(str, straight.indices[6])))


def test_it_counts_batches_in_a_row_over_the_times_it_looks(tmp_path):
    passes = {"bad": (1, 2, 4, 5, 8, 9), "log_every_n_steps": 2, "enable_checkpointing": False}
    run(tmp_path, StopOnNonFinite(3), **passes)
    message = stopped(tmp_path, StopOnNonFinite(3), **passes | {"bad": (1, 2, 5, 9, 10, 11)})
    assert message.startswith("the loss is not finite since step 9")


def test_lost_weights_are_never_saved(tmp_path):
    """The fifth batch of the second epoch spoils them; the checkpoint of the first epoch stays."""
    save = ModelCheckpoint(tmp_path, filename="saved", save_top_k=1)
    message = stopped(tmp_path, StopOnNonFinite(50), save, EMA(0.9), bad=(14,), spoils=True)
    (file,) = tmp_path.glob("*.ckpt")
    assert message.startswith("the weights are not finite after step 19, nor is the loss since step 14: ")
    assert f"the checkpoint from before it is {file};" in message
    checkpoint = torch.load(file, weights_only=True)
    assert checkpoint["global_step"] == 10
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_steps_count_where_batches_gather(tmp_path):
    options = {"bad": range(8, 20), "accumulate_grad_batches": 2, "enable_checkpointing": False}
    message = stopped(tmp_path, StopOnNonFinite(2), **options)
    assert message.startswith("the loss is not finite since step 4, for 2 batches")


def test_patience_out_of_range():
    with pytest.raises(UserError, match="patience of StopOnNonFinite is 0"):
        StopOnNonFinite(0)
