"""The task under Lightning's Trainer, against losses, metrics and updates computed by hand."""

import copy

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score
from torch import nn

from cnnbench import ClassificationTask, DigitsDataModule, OptimConfig
from cnnbench.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")


def trainer(tmp_path, **options):
    options = {"max_epochs": 1, "log_every_n_steps": 1, "accelerator": "cpu", **options}
    logger = CSVLogger(tmp_path, name="", version="")
    return pl.Trainer(logger=logger, enable_progress_bar=False, enable_model_summary=False, **options)


class Recorded(ClassificationTask):
    """Keeps what it saw and computed."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.seen.append((batch, loss.detach()))
        return loss


def lenet5(cls=ClassificationTask, **options):
    pl.seed_everything(0, verbose=False)
    return cls("lenet5", optim=OptimConfig(optimizer="sgd", lr=0.1, sched="constant"), **options)


def test_it_learns_classes_and_channels_from_the_data(tmp_path):
    task = lenet5()
    trainer(tmp_path, limit_train_batches=1).fit(task, DigitsDataModule(in_chans=3))
    assert (task.hparams.num_classes, task.hparams.in_chans) == (10, 3)
    assert task(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_after_training_the_data_can_be_loaded_whole(tmp_path):
    data = DigitsDataModule(batch_size=64)
    trainer(tmp_path, max_epochs=1, limit_train_batches=3, limit_val_batches=1).fit(ClassificationTask("lenet5"), data)
    assert len(list(data.train_dataloader())) == 1257 // 64


def test_loss_is_cross_entropy_with_smoothing_in_training_only(tmp_path):
    task = lenet5(Recorded, label_smoothing=0.2)
    fit = trainer(tmp_path, limit_train_batches=1, limit_val_batches=1)
    fit.fit(task, DigitsDataModule(batch_size=64))
    (batch, loss), network = task.seen[0], lenet5(num_classes=10, in_chans=1).network
    log_probabilities = network(batch["image"]).log_softmax(1)
    target = F.one_hot(batch["label"], 10) * 0.8 + 0.02
    assert loss.item() == pytest.approx(-(target * log_probabilities).sum(1).mean().item(), rel=1e-5)

    val = next(iter(fit.val_dataloaders))
    images = fit.datamodule.on_after_batch_transfer(val, 0)["image"]
    probabilities = task.eval()(images).softmax(1).detach().double()
    expected = log_loss(val["label"], probabilities / probabilities.sum(1, keepdim=True), labels=range(10))
    assert fit.callback_metrics["val/loss"].item() == pytest.approx(expected, rel=1e-5)


def test_metrics_are_sklearns(tmp_path):
    task = lenet5()
    fit = trainer(tmp_path, limit_train_batches=5)
    data = DigitsDataModule(batch_size=50)  # 270 images: batches of unequal size
    fit.fit(task, data)
    (figures,) = fit.test(task, data, verbose=False)
    test = data.datasets["test"].__getitems__(range(270))
    logits = task.eval()(data.on_after_batch_transfer(test, 0)["image"]).detach()
    assert figures["test/accuracy"] == pytest.approx(accuracy_score(test["label"], logits.argmax(1)))
    assert figures["test/accuracy_top5"] == pytest.approx(
        top_k_accuracy_score(test["label"], logits, k=5, labels=range(10))
    )
    assert figures["test/loss"] == pytest.approx(F.cross_entropy(logits, test["label"]).item(), rel=1e-5)


def test_the_gradient_is_clipped_and_its_norm_logged_before(tmp_path):
    """One step of plain SGD moves the weights by lr times the clipped gradient's norm."""
    optim = OptimConfig(optimizer="momentum", lr=0.5, momentum=0.0, weight_decay=0.0, sched="constant", clip_grad=0.01)
    pl.seed_everything(0, verbose=False)
    task = ClassificationTask("lenet5", num_classes=10, in_chans=1, optim=optim)
    before = [p.detach().clone() for p in task.network.parameters()]
    fit = trainer(tmp_path, max_steps=1)
    fit.fit(task, DigitsDataModule())
    moved = torch.cat([(p - q).flatten() for p, q in zip(task.network.parameters(), before, strict=True)]).norm()
    assert moved.item() == pytest.approx(0.5 * 0.01, rel=1e-3)
    assert fit.callback_metrics["train/grad_norm"].item() > 0.02


def test_mixing_mixes_images_and_targets(tmp_path):
    plain, mixed = lenet5(Recorded), lenet5(Recorded, mixup=0.8, cutmix=1.0)
    for task in (plain, mixed):
        trainer(tmp_path, limit_train_batches=3, limit_val_batches=0).fit(task, DigitsDataModule())
    first = [task.seen[0] for task in (plain, mixed)]
    assert torch.equal(first[0][0]["image"], first[1][0]["image"])
    assert first[0][1] != first[1][1]


def test_dropout_draws_by_seed_and_step_whatever_was_drawn_before(tmp_path):
    losses = []
    for drawn in (0, 1000):
        task = lenet5(Recorded, model_args={"drop_rate": 0.5}, num_classes=10, in_chans=1)
        torch.rand(drawn)
        trainer(tmp_path, limit_train_batches=3, limit_val_batches=0).fit(task, DigitsDataModule())
        losses.append([loss for _, loss in task.seen])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 3


def test_a_checkpoint_is_complete(tmp_path):
    task = lenet5(label_smoothing=0.1, model_args={"drop_rate": 0.1})
    fit = trainer(tmp_path, limit_train_batches=1)
    fit.fit(task, DigitsDataModule())
    path = tmp_path / "whole.ckpt"
    fit.save_checkpoint(path)
    assert torch.load(path, weights_only=True)["cnnbench"]["class_names"] == tuple("0123456789")
    loaded = ClassificationTask.load_from_checkpoint(path)
    assert loaded.hparams == task.hparams
    assert loaded.optim == task.optim
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(loaded.eval()(images), task.eval()(images))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": 4}, ("num_classes 4", "DigitsDataModule", "10")),
        ({"in_chans": 3}, ("in_chans 3", "DigitsDataModule", "1")),
        ({"model_args": {"drop_path": 0.1}}, ("lenet5", "drop_path")),
    ],
)
def test_what_contradicts_the_data_is_refused(tmp_path, options, words):
    with pytest.raises(UserError) as raised:
        trainer(tmp_path).fit(lenet5(**options), DigitsDataModule())
    assert all(word in str(raised.value) for word in words)


def test_the_checkpoint_of_another_model_is_refused(tmp_path):
    fit = trainer(tmp_path, limit_train_batches=1, limit_val_batches=0)
    fit.fit(lenet5(), DigitsDataModule())
    path = tmp_path / "lenet5.ckpt"
    fit.save_checkpoint(path)
    task = ClassificationTask("resnet18")
    with pytest.raises(UserError, match=r"holds lenet5 with 10 classes.* builds resnet18"):
        trainer(tmp_path).test(task, DigitsDataModule(), ckpt_path=path)


def test_images_too_small_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"16x16.*lenet5.*32"):
        trainer(tmp_path).fit(lenet5(), DigitsDataModule(image_size=16))


@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "64-true"])
def test_the_loss_is_summed_in_float64_in_any_precision(tmp_path, precision):
    task = lenet5()
    fit = trainer(tmp_path, limit_train_batches=1, precision=precision)
    fit.fit(task, DigitsDataModule())
    assert task.val_metrics["loss"].mean_value.dtype == torch.float64
    assert fit.callback_metrics["val/loss"].dtype == torch.float64


def test_compiled_and_channels_last(tmp_path):
    task = lenet5(compile=True, channels_last=True)
    trainer(tmp_path, limit_train_batches=1, limit_val_batches=0).fit(task, DigitsDataModule(in_chans=3))
    assert task.network._compiled_call_impl is not None
    assert task.network.c1.weight.is_contiguous(memory_format=torch.channels_last)


class TwoHeads(nn.Module):
    """A network whose auxiliary head answers too while it trains."""

    def __init__(self, network):
        super().__init__()
        self.network, self.head = network, nn.Linear(32 * 32, 10)

    def forward(self, x):
        logits = self.network(x)
        return (logits, self.head(x.flatten(1))) if self.training else logits


@pytest.mark.parametrize(("given", "expected"), [(None, 0.3), (2.0, 2.0)])
def test_auxiliary_heads_learn_by_their_weight(tmp_path, given, expected):
    task = lenet5(Recorded, num_classes=10, in_chans=1, aux_weight=given)
    task.network = TwoHeads(task.network)
    heads = copy.deepcopy(task.network).train()
    trainer(tmp_path, limit_train_batches=1, limit_val_batches=1).fit(task, DigitsDataModule())
    batch, loss = task.seen[0]
    losses = [F.cross_entropy(output, batch["label"]).item() for output in heads(batch["image"])]
    assert loss.item() == pytest.approx(losses[0] + expected * losses[1], rel=1e-5)


@pytest.mark.parametrize("source", ["cnnbench", "timm", "torchvision"])
@pytest.mark.parametrize(("name", "weight"), [("inception_v3", 0.4), ("googlenet", 0.3)])
def test_auxiliary_heads_weigh_the_same_whoever_wrote_the_network(name, weight, source):
    if (name, source) != ("googlenet", "timm"):
        assert ClassificationTask(name, source=source).aux_weight == weight


@pytest.mark.parametrize("source", ["cnnbench", "timm"])
def test_norms_that_rectify_too_are_not_replaced_in_silence(source):
    """What Lightning's sync_batchnorm does before the fit would leave DenseNet without its ReLUs."""
    task = ClassificationTask("densenet121", source=source, num_classes=10, in_chans=3)
    task.configure_model()
    task.on_fit_start()
    task.network = nn.SyncBatchNorm.convert_sync_batchnorm(task.network)
    with pytest.raises(UserError, match="sync_batchnorm is not for densenet121"):
        task.on_fit_start()
