"""What a recipe's training options do to a run: losses, mixing, clipping, accumulation, layer-wise rates."""

import lightning.pytorch as pl
import pytest
import timm
import timm.data
import timm.loss
import torch
from torch import nn

from cnnbench import ClassificationTask, DigitsDataModule, OptimConfig
from cnnbench.callbacks.progress import RunProgress
from cnnbench.errors import UserError
from cnnbench.tasks.clipping import clip
from cnnbench.tasks.losses import LOSSES, create_loss

pytestmark = pytest.mark.filterwarnings("ignore")
PLAIN = {"optimizer": "momentum", "momentum": 0.0, "weight_decay": 0.0, "sched": "constant"}


def trainer(**options):
    options = {"max_epochs": 1, "log_every_n_steps": 1, "accelerator": "cpu", "limit_val_batches": 0, **options}
    quiet = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    return pl.Trainer(**dict.fromkeys(quiet, False) | options)


def lenet5(cls=ClassificationTask, optim=None, **options):
    pl.seed_everything(0, verbose=False)
    return cls("lenet5", num_classes=10, in_chans=1, optim=OptimConfig(**PLAIN, **(optim or {})), **options)


def movement(task):
    """How far one step moves each parameter, divided by the learning rate: the gradient as it was clipped."""
    before = {name: p.detach().clone() for name, p in task.network.named_parameters()}
    trainer(max_steps=1).fit(task, DigitsDataModule())
    return {name: (before[name] - p.detach()) / task.optim.lr for name, p in task.network.named_parameters()}


# ---------------------------------------------------------------------- losses


@pytest.fixture
def answers():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 10, generator=generator), torch.randint(10, (8,), generator=generator)


@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_is_timms(answers, smoothing, threshold):
    logits, labels = answers
    theirs = timm.loss.BinaryCrossEntropy(smoothing=smoothing, target_threshold=threshold)
    assert create_loss("bce", smoothing, threshold, mixed=False)(logits, labels) == pytest.approx(
        theirs(logits, labels)
    )
    # as timm's Mixup smooths, which makes the targets there
    mix = timm.data.Mixup(mixup_alpha=1.0, label_smoothing=smoothing, num_classes=10)
    torch.manual_seed(0)
    _, targets = mix(torch.zeros(8, 1, 4, 4), labels)
    ours = create_loss("bce", smoothing, threshold, mixed=True)
    unsmoothed = (targets - smoothing / 10) / (1 - smoothing)
    assert ours(logits, unsmoothed).item() == pytest.approx(theirs(logits, targets).item(), rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_teaches(loss):
    task = lenet5(optim={"lr": {"bce": 2.0}.get(loss, 0.2)}, loss=loss, label_smoothing=0.1)
    fit = trainer(max_epochs=2, limit_val_batches=None)
    fit.fit(task, DigitsDataModule())
    assert fit.callback_metrics["val/accuracy"] > 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "bcee"}, ("bcee", "'bce'")),
        ({"loss": "asymmetric", "mixup": 0.1}, ("'asymmetric'", "mixed targets", "cross_entropy and bce")),
        ({"loss": "asymmetric", "cutmix": 1.0}, ("'asymmetric'", "mixed targets")),
        ({"bce_target_threshold": 0.2}, ("bce_target_threshold", "cross_entropy")),
        ({"mixup": 0.1, "mixup_off_epochs": -1}, ("mixup_off_epochs", "-1")),
        ({"mixup_off_epochs": 1}, ("mixup_off_epochs is 1", "neither mixup nor cutmix")),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(options, words):
    with pytest.raises(UserError) as raised:
        lenet5(**options)
    assert all(word in str(raised.value) for word in words)


# ---------------------------------------------------------------------- mixing


class Mixed(ClassificationTask):
    """Keeps the epochs whose batches were mixed."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.mixed_in = []

    def configure_head(self, num_classes):
        super().configure_head(num_classes)
        self.mix.register_forward_hook(lambda *_: self.mixed_in.append(self.current_epoch))


@pytest.mark.parametrize(
    ("off", "run", "mixed"),
    [
        (0, {"max_epochs": 3}, {0, 1, 2}),
        (1, {"max_epochs": 3}, {0, 1}),
        (9, {"max_epochs": 3}, set()),
        (1, {"max_epochs": -1, "max_steps": 5}, {0, 1}),  # of two steps each: the third is cut short
    ],
)
def test_mixing_ends_before_the_last_epochs(off, run, mixed, capsys):
    task = lenet5(Mixed, mixup=0.8, mixup_off_epochs=off)
    fit = trainer(limit_train_batches=2, **run, enable_progress_bar=True, callbacks=[RunProgress()])
    fit.fit(task, DigitsDataModule())
    assert set(task.mixed_in) == mixed
    said = f"off from epoch {len(mixed) + 1} on" in capsys.readouterr().out
    assert said == (off > 0)
    assert ("train/accuracy" in fit.callback_metrics) == (off > 0)  # unmixed images have a label to count


# ---------------------------------------------------------------------- clipping


def test_clipping_by_value_bounds_each_number():
    free, clipped = (
        movement(lenet5(optim={"lr": 1e-2, **clip})) for clip in ({}, {"clip_grad": 0.01, "clip_mode": "value"})
    )
    for name in free:
        torch.testing.assert_close(clipped[name], free[name].clamp(-0.01, 0.01), atol=2e-5, rtol=0)
    assert max(gradient.abs().max() for gradient in free.values()) > 0.02


def test_adaptive_clipping_is_the_papers_and_spares_the_classifier():
    """Brock et al. 2021, equation 3, unit by unit: the rows of a matrix, the filters of a convolution, a whole bias."""
    limit = 0.01
    task = lenet5(optim={"lr": 1e-2})
    weights = {name: p.detach().clone() for name, p in task.network.named_parameters()}
    free = movement(task)
    clipped = movement(lenet5(optim={"lr": 1e-2, "clip_grad": limit, "clip_mode": "agc"}))
    shrunk = 0
    for name, gradient in free.items():
        expected = gradient.clone()
        if not name.startswith("head.fc"):
            for unit, weight in (
                zip(expected, weights[name], strict=True) if gradient.ndim > 1 else [(expected, weights[name])]
            ):
                bound = limit * max(weight.norm().item(), 1e-3)
                if unit.norm() > bound:
                    unit *= bound / unit.norm()
                    shrunk += 1
        torch.testing.assert_close(clipped[name], expected, atol=3e-5, rtol=1e-3)
    assert shrunk > 10


def test_adaptive_clipping_spares_both_classifiers_of_a_distilled_network():
    network = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, depth=1, num_classes=10)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    clip(None, network, None, 0.01, "agc")
    whole = {name for name, parameter in network.named_parameters() if parameter.grad.min() == 1}
    assert whole == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}


def test_one_setting_clips():
    task = lenet5(optim={"clip_grad": 1.0})
    with pytest.raises(UserError, match=r"clip_grad and trainer.gradient_clip_val"):
        trainer(gradient_clip_val=0.5).fit(task, DigitsDataModule())


# ---------------------------------------------------------------------- the size of a step


def test_the_rate_follows_the_images_of_a_step():
    """Two batches of 32 that are accumulated are one step of 64 at twice the rate of 32."""
    moved = []
    for batch, accumulated in ((64, 1), (32, 2)):
        task = lenet5(optim={"lr": 0.1, "base_batch_size": 32})
        before = [p.detach().clone() for p in task.network.parameters()]
        fit = trainer(max_steps=1, limit_train_batches=accumulated, accumulate_grad_batches=accumulated)
        fit.fit(task, DigitsDataModule(batch_size=batch))
        assert fit.optimizers[0].param_groups[0]["lr"] == 0.2
        moved.append(torch.cat([(p - q).flatten() for p, q in zip(task.network.parameters(), before, strict=True)]))
    torch.testing.assert_close(*moved)


@pytest.mark.parametrize(
    ("batches", "accumulated", "words"),
    [
        (19, 4, ("is 4", "19 batches", "last step would be of 3", "limit_train_batches 16")),
        (9, 4, ("9 batches", "take 3, or", "limit_train_batches 8")),
        (3, 8, ("3 batches", "take 3")),
    ],
)
def test_accumulation_that_leaves_a_smaller_step_is_refused(batches, accumulated, words):
    with pytest.raises(UserError) as raised:
        trainer(limit_train_batches=batches, accumulate_grad_batches=accumulated).fit(lenet5(), DigitsDataModule())
    assert all(word in str(raised.value) for word in words)


# ---------------------------------------------------------------------- layers


def test_layers_learn_at_their_own_rate():
    """lenet5 has four layers: c1, c3, c5 and the head; without a schedule too."""
    for sched in ("constant", "none", "onecycle"):
        task = lenet5()
        task.optim = OptimConfig(**PLAIN | {"sched": sched}, lr=0.1, layer_decay=0.5)
        fit = trainer(max_steps=2)
        fit.fit(task, DigitsDataModule())
        rates = {id(p): group["lr"] for group in fit.optimizers[0].param_groups for p in group["params"]}
        top = rates[id(task.network.get_classifier().weight)]
        layers = [rates[id(layer.weight)] / top for layer in (task.network.c1, task.network.c3, task.network.c5)]
        assert layers == pytest.approx([0.125, 0.25, 0.5])
        assert fit.callback_metrics["train/lr"] == pytest.approx({"onecycle": 0.1 / 25e4}.get(sched, 0.1), abs=1e-3)


def test_a_network_without_layers_is_refused():
    task = lenet5(optim={"layer_decay": 0.5})
    task.network = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 10))
    with pytest.raises(UserError, match="layer_decay: Sequential does not tell its layers"):
        trainer().fit(task, DigitsDataModule())
