"""Networks prepared as they would be deployed: still the same function, and what it costs."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cnnbench import create_model
from cnnbench.compare import timing
from cnnbench.compare.folding import fold_batch_norm
from cnnbench.compare.served import measure_served
from cnnbench.compare.settings import Settings
from cnnbench.compare.workload import Workload
from cnnbench.errors import UserError


def settle(network):
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor)
    return network.double().eval()


@pytest.mark.parametrize("source", ["cnnbench", "timm"])
@pytest.mark.parametrize(
    ("name", "left"),  # norms that no convolution stands before
    [("resnet18", 0), ("mobilenetv2_100", 0), ("efficientnet_b0", 0), ("regnety_004", 0), ("densenet121", 62)],
)
def test_folding_keeps_the_function(name, source, left):
    network = settle(create_model(name, source=source, num_classes=10))
    folded = fold_batch_norm(network)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected, found = network(x), folded(x)
    assert torch.allclose(expected, found, rtol=1e-9, atol=1e-9 * expected.abs().max())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) > left


class Twice(nn.Module):
    """What the convolution puts out is wanted without the norm, too; and another is called twice."""

    def __init__(self):
        super().__init__()
        self.one, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.other, self.second = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.one(x)
        return self.other(self.second(self.other(self.norm(x) + x)))


class LooksAtValues(nn.Sequential):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x


def test_what_cannot_be_folded_is_told():
    with pytest.raises(UserError, match="no BatchNorm follows a convolution"):
        fold_batch_norm(Twice())
    with pytest.raises(UserError, match="cannot be traced"):
        fold_batch_norm(LooksAtValues(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))


@pytest.fixture
def workload(monkeypatch):
    monkeypatch.setattr(timing, "SHORTEST", 1e-5)

    def make(network, settings):
        return Workload("small", network, torch.randn(4, 3, 16, 16), settings)

    return make


def test_served(workload, monkeypatch):
    """Whatever gains here and today, the outputs stay near those in float64, and the sides as they were."""
    settings = Settings(seconds=0.05, threads=1)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 5)
    )
    theirs = LooksAtValues(nn.Conv2d(3, 8, 3), nn.Dropout(0.5))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    monkeypatch.setattr(nn.Module, "compile", _no_compiler)
    (ours_served, theirs_served), contest = measure_served(
        workload(network, settings), workload(theirs, settings), settings
    )
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert 0 < ours_served.relative_error < 2e-2
    assert "no torch.compile: no compiler here" in ours_served.options
    assert "no folded BatchNorm: it cannot be traced" in theirs_served.options
    assert ours_served.images_per_second > 0 and ours_served.gain.low <= ours_served.gain.median
    assert contest.pairs >= timing.LEAST_ROUNDS


def _no_compiler(self):
    raise UserError("no compiler here")


def test_options_that_gain_are_taken(workload, monkeypatch):
    """A network that bf16 makes ten times as fast, and nothing else."""

    class Bf16(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(768, 5)

        def forward(self, x):
            for _ in range(3 if torch.is_autocast_enabled("cpu") else 300):
                y = self.fc(x.flatten(1))
            return y

    monkeypatch.setattr(nn.Module, "compile", _no_compiler)
    settings = Settings(seconds=0.05, threads=1)
    one = workload(Bf16(), settings)
    (served, _), _ = measure_served(one, one, replace(settings, channels_last=True))
    assert served.options.split(";")[0] == "bf16"
    assert served.gain.low > 2
    assert 1e-4 < served.relative_error < 2e-2
