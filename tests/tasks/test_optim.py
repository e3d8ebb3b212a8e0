"""The `optim` block against closed forms and torch's own optimisers."""

import math

import pytest
import torch
from torch import nn

from cnnbench import create_model
from cnnbench.errors import UserError
from cnnbench.tasks.optim import OptimConfig, create_optimizer, create_scheduler


def learning_rates(config, updates, updates_per_epoch):
    optimizer = create_optimizer(nn.Linear(2, 2), config)
    scheduler = create_scheduler(optimizer, config, updates, updates_per_epoch)
    rates = []
    for step in range(1, updates + 2):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step_update(step)
    return rates


def test_warm_up_is_linear_and_then_the_cosine_reaches_min_lr():
    config = OptimConfig(lr=1.0, warmup_epochs=2, warmup_lr=0.1, min_lr=0.01)
    rates = learning_rates(config, updates=50, updates_per_epoch=5)
    warm_up = [0.1 + 0.9 * step / 10 for step in range(10)]
    cosine = [0.01 + 0.99 * (1 + math.cos(math.pi * step / 40)) / 2 for step in range(41)]
    assert rates == pytest.approx(warm_up + cosine)


def test_constant_holds_the_rate():
    assert set(learning_rates(OptimConfig(lr=0.3, sched="constant"), 20, 5)) == {0.3}


def test_steps_decay_every_so_many_epochs():
    config = OptimConfig(lr=1.0, sched="step", decay_epochs=1.5, decay_rate=0.5, warmup_epochs=1, warmup_lr=0.0)
    rates = learning_rates(config, 32, 4)
    assert rates[4:10] == [1.0] * 6
    assert rates[10:16] == [0.5] * 6
    assert rates[16] == 0.25


def test_milestones_are_those_of_torch():
    """The rates after the warm-up are MultiStepLR's, counted from the beginning of the run."""
    config = OptimConfig(lr=1.0, sched="multistep", decay_milestones=[2, 3.5], warmup_epochs=0.5, warmup_lr=0.0)
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[16, 28], gamma=0.1)
    for step, rate in enumerate(learning_rates(config, 40, 8)):
        if step >= 4:
            assert rate == pytest.approx(optimizer.param_groups[0]["lr"]), step
        optimizer.step()
        reference.step()


def test_a_run_shorter_than_its_warm_up_still_has_a_schedule():
    rates = learning_rates(OptimConfig(lr=1.0, warmup_epochs=5, warmup_lr=0.0), updates=4, updates_per_epoch=10)
    assert rates[:4] == pytest.approx([0, 0.25, 0.5, 0.75])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_one_cycle_is_torchs_rates_and_momenta(optimizer):
    layer = nn.Linear(2, 2)
    ours = create_optimizer(layer, OptimConfig(optimizer=optimizer, lr=2.0, sched="onecycle"))
    theirs = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer](layer.parameters(), lr=2.0)
    scheduler = create_scheduler(ours, OptimConfig(lr=2.0, sched="onecycle"), 50, 5)
    reference = torch.optim.lr_scheduler.OneCycleLR(theirs, max_lr=2.0, total_steps=50)
    for step in range(1, 50):
        for key in ("lr", "momentum") if optimizer == "sgd" else ("lr", "betas"):
            assert ours.param_groups[0][key] == pytest.approx(theirs.param_groups[0][key], rel=1e-9), (step, key)
        theirs.step()
        reference.step()
        scheduler.step_update(step)


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_one_cycle_of_few_steps_has_rates(updates):
    for warmup in (0, 10):
        rates = learning_rates(OptimConfig(lr=1.0, sched="onecycle", warmup_epochs=warmup), updates, 5)
        assert all(0 < rate <= 1 for rate in rates)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw", "lamb", "lion", "rmsproptf", "adafactor", "adan", "muon"])
def test_timms_optimizers_go_down_by_name(name):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    inputs, labels = torch.randn(64, 8), torch.randint(2, (64,))
    optimizer = create_optimizer(network, OptimConfig(optimizer=name, lr=1e-3, weight_decay=0.01))
    losses = []
    for _ in range(10):
        losses.append(nn.functional.cross_entropy(network(inputs), labels))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
def test_norms_and_biases_do_not_decay(name):
    network = create_model(name, num_classes=3)
    optimizer = create_optimizer(network, OptimConfig(weight_decay=0.1))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for key, parameter in network.named_parameters():
        matrix = parameter.ndim > 1  # kernels and matrices; norms, biases and layer scales are vectors
        assert decays[id(parameter)] == (0.1 if matrix else 0), key


def test_sgd_is_torchs():
    def trained(build):
        torch.manual_seed(0)
        layer = nn.Linear(4, 1, bias=False)
        optimizer = build(layer)
        for _ in range(5):
            optimizer.zero_grad()
            layer(torch.ones(3, 4)).square().sum().backward()
            optimizer.step()
        return layer.weight

    config = OptimConfig(optimizer="sgd", lr=0.01, momentum=0.8, weight_decay=0.1)
    theirs = trained(lambda m: torch.optim.SGD(m.parameters(), 0.01, 0.8, weight_decay=0.1, nesterov=True))
    assert torch.equal(trained(lambda m: create_optimizer(m, config)), theirs)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "adamx"}, ("adamx", "'adam'")),
        ({"sched": "cosin"}, ("cosin", "'cosine'")),
        ({"sched": "onecycl"}, ("onecycl", "'onecycle'")),
        ({"sched": "onecycle", "min_lr": 0.1}, ("optim.min_lr", "onecycle")),
        ({"clip_mode": "acg"}, ("clip_mode", "acg", "'agc'")),
        ({"clip_mode": "agc"}, ("clip_mode is agc", "clip_grad")),
        ({"layer_decay": 0.0}, ("optim.layer_decay", "above 0 and at most 1")),
        ({"layer_decay": 1.1}, ("optim.layer_decay", "1.1")),
        ({"base_batch_size": 0}, ("optim.base_batch_size", "at least 1")),
        ({"lr": -1.0}, ("optim.lr", "-1.0")),
        ({"clip_grad": math.nan}, ("optim.clip_grad", "nan")),
    ],
)
def test_mistakes_are_named(settings, words):
    with pytest.raises(UserError) as raised:
        OptimConfig(**settings)
    assert all(word in str(raised.value) for word in words)


def test_an_argument_that_the_optimizer_lacks_is_named():
    with pytest.raises(UserError, match="beta_3"):
        create_optimizer(nn.Linear(1, 1), OptimConfig(opt_args={"beta_3": 1}))
