"""A comparison leaves everything as it was, whatever happens in it, and takes networks of every make."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cnnbench.compare.parity import align, check_parity, compare_networks
from cnnbench.compare.sides import side
from cnnbench.compare.trace import trace
from cnnbench.errors import UserError

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Net(nn.Module):
    """Norm, dropout, a hook, and what happens in between."""

    def __init__(self, between=None):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.fc = nn.Linear(4, 5)
        self.between = between

    def forward(self, x):
        x = self.norm(self.conv(x)).relu_()
        x = x if self.between is None else self.between(x)
        return self.fc(self.drop(x.mean((2, 3))))


def world():
    """What a comparison must not change of the process."""
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.backends.mha.get_fastpath_enabled(),
        nn.Module.__call__,
        torch.are_deterministic_algorithms_enabled(),
    )


def state(network):
    modes = {name: module.training for name, module in network.named_modules()}
    tensors = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()]
    return modes, tensors, hooks, [parameter.grad for parameter in network.parameters()]


def assert_same_state(before, after):
    assert before[0] == after[0] and before[2] == after[2] and before[3] == after[3]
    for key, tensor in before[1].items():
        assert tensor.dtype == after[1][key].dtype and torch.equal(tensor, after[1][key]), key


@pytest.mark.parametrize("grad", [True, False])
def test_process_and_networks_are_left_as_they_were(grad):
    ours, theirs = Net().eval(), Net()
    ours.norm.train()
    calls = []
    ours.conv.register_forward_hook(lambda *args: calls.append(1) and None)
    before = state(ours), state(theirs)
    images = IMAGES.clone()
    with torch.set_grad_enabled(grad):
        outside = world()
        assert compare_networks(ours, theirs, images).passed
        align(ours, theirs, images)
        assert world() == outside
    for network, was in zip((ours, theirs), before, strict=True):
        assert_same_state(was, state(network))
    assert torch.equal(images, IMAGES)


def test_building_leaves_the_random_state_alone():
    outside = world()
    check_parity(side(Net), side(Net), (3, 8, 8))
    assert world() == outside


def test_the_verdict_does_not_depend_on_the_random_state():
    first = check_parity(side(Net), side(Net), (3, 8, 8))
    torch.manual_seed(123)
    assert check_parity(side(Net), side(Net), (3, 8, 8)) == first


def explode(x):
    raise RuntimeError("boom")


def test_calls_are_restored_after_a_network_raises():
    network, broken = Net(), Net(explode)
    outside = world()
    with pytest.raises(RuntimeError, match="boom"):
        trace(broken, IMAGES.float())
    with pytest.raises(UserError, match="boom"):
        compare_networks(network, broken, IMAGES)
    assert world() == outside


class Checkpointed(Net):
    reentrant = False

    def forward(self, x):
        x = checkpoint(lambda x: self.conv(x).relu(), x, use_reentrant=self.reentrant)
        return self.fc(self.drop(self.norm(x).relu().mean((2, 3))))


class Plain(Checkpointed):
    def forward(self, x):
        return self.fc(self.drop(self.norm(self.conv(x).relu()).relu().mean((2, 3))))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_activations_change_nothing(reentrant):
    ours = Checkpointed()
    ours.reentrant = reentrant
    parity = compare_networks(ours, Plain(), IMAGES)
    assert parity.passed and parity.same_random_draws


def test_scripted_parts_are_compared():
    ours = Net(torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU())))
    theirs = Net(nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU()))
    assert compare_networks(ours, theirs, IMAGES).passed
    wrong = Net(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()))
    parity = compare_networks(ours, wrong, IMAGES)
    assert not parity.passed
    assert parity.first_divergence.cause == "SiLU, theirs ReLU"


def test_compiled_parts_are_compared():
    theirs = Net(nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU()))
    ours = copy.deepcopy(theirs)
    ours.between = torch.compile(ours.between, backend="eager")
    parity = compare_networks(ours, theirs, IMAGES)
    assert parity.passed, parity


def test_a_compiled_network_is_compared():
    theirs = Net()
    parity = compare_networks(torch.compile(copy.deepcopy(theirs), backend="eager"), theirs, IMAGES)
    assert parity.passed, parity


class Remembers(Net):
    """Keeps a tensor of its last run, which cannot be copied with its history."""

    def forward(self, x):
        self.last = super().forward(x)
        return self.last


def test_a_network_that_cannot_be_copied_is_named():
    ours = Remembers()
    ours(IMAGES.float())
    with pytest.raises(UserError, match=r"ours \(Remembers\) cannot be copied: RuntimeError: Only Tensors"):
        compare_networks(ours, Net(), IMAGES)


class Restless(Net):
    """Draws from Python's and NumPy's generators."""

    def forward(self, x):
        return super().forward(x) * random.random() + np.random.rand()


def test_other_generators_are_seeded():
    assert compare_networks(Restless(), Restless(), IMAGES).passed


class WritesToItsInput(Net):
    def forward(self, x):
        return super().forward(x.mul_(2))


class WritesToACopy(Net):
    def forward(self, x):
        return super().forward(x * 2)


def test_a_network_may_write_to_its_input():
    assert compare_networks(WritesToItsInput(), WritesToACopy(), IMAGES).passed


class Forgotten(Net):
    """Has a buffer that its state dict leaves out."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1), persistent=False)

    def forward(self, x):
        return super().forward(x - self.mean)


class ForgottenToo(Forgotten):
    def __init__(self):
        super().__init__()
        self.first = self.conv
        del self.conv

    @property
    def conv(self):
        return self.first


def test_buffers_that_are_not_saved_stay_as_they_are():
    parity = compare_networks(Forgotten(), ForgottenToo(), IMAGES)
    assert parity.passed, parity
    assert parity.weights.method == "data flow"
