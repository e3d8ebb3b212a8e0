"""What differs is read off where two networks part: settings, functions, order, draws."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from families import SMALL, images_for
from plant import change, move_stride, replace
from torch import nn

import cnnbench.models as models
from cnnbench.compare.parity import compare_networks


def network(name, **kwargs):
    return models.create_model(name, source="timm", num_classes=10, **{**SMALL[name], **kwargs})


CAUSES = {
    "eps": ("resnet18", change("bn1", eps=1e-3), "bn1", "eps 0.001, theirs 1e-05"),
    "LayerNorm's eps": ("convnext_tiny", change("stem.1", eps=1e-5), "stem.1", "eps 1e-05, theirs 1e-06"),
    "GELU": (
        "convnext_tiny",
        replace("stages.3.blocks.0.mlp.act", partial(nn.GELU, approximate="tanh")),
        "stages.3.blocks.0.mlp.act",
        "GELU (tanh): approximate tanh, theirs none",
    ),
    "stride": (
        "resnet18",
        move_stride("layer2.0.conv1", "layer2.0.conv2"),
        "layer2.0.conv1",
        "stride (1, 1), theirs (2, 2); layer2.0.conv2: stride (2, 2), theirs (1, 1)",
    ),
    "gate": (
        "seresnet18",
        replace("layer1.0.se.gate", nn.Hardsigmoid),
        "layer1.0.se.gate",
        "hard sigmoid, theirs sigmoid",
    ),
    "momentum": ("resnet18", change("layer2.0.bn1", momentum=0.01), "layer2.0.bn1", "momentum 0.01, theirs 0.1"),
    "activation": (
        "resnet18",
        replace("layer1.1.act1", nn.Identity),
        "layer1.1.act1",
        "no ReLU between layer1.1.bn1 and layer1.1.conv2, which theirs has",
    ),
}


@pytest.mark.parametrize(("name", "plant", "module", "cause"), CAUSES.values(), ids=CAUSES)
def test_cause_is_read_off(name, plant, module, cause):
    theirs = network(name)
    ours = copy.deepcopy(theirs)
    plant(ours)
    parity = compare_networks(ours, theirs, images_for(name).double())
    assert not parity.passed
    assert (parity.first_divergence.module, parity.first_divergence.cause) == (module, cause)
    assert parity.first_divergence.mode == ("train" if cause.startswith("momentum") else "eval")


class Written(nn.Module):
    """A convolution, and then a function written out."""

    def __init__(self, function, scale=1.0):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)
        self.function, self.scale = function, scale

    def forward(self, x):
        return self.last(self.function(self.norm(self.conv(x)) * self.scale)).mean((2, 3))


def verdict(ours, theirs, scale=1.0):
    images = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return compare_networks(Written(ours, scale), Written(theirs, scale), images)


FUNCTIONS = {
    "padding counted": (
        partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False),
        partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1),
        "average pool: count_include_pad False, theirs True",
    ),
    "concatenation": (
        lambda x: torch.cat([x[:, :4].tanh(), x[:, 4:].relu()], 1),
        lambda x: torch.cat([x[:, 4:].relu(), x[:, :4].tanh()], 1),
        "concatenates in another order than theirs",
    ),
    "lost residual": (
        lambda x: x.tanh(),
        lambda x: x + x.tanh(),
        "no addition between norm and last, which theirs has",
    ),
    "detach": (lambda x: x.detach() + x.tanh(), lambda x: x + x.tanh(), "detach, which theirs lacks"),
    "hard sigmoid": (F.hardsigmoid, torch.sigmoid, "hard sigmoid, theirs sigmoid"),
    "dilation": (
        lambda x: F.max_pool2d(x, 3, 1, dilation=1, ceil_mode=False)[..., :4, :4],
        lambda x: F.max_pool2d(x, 3, 1, dilation=2)[..., :4, :4],
        "max pool: dilation (1, 1), theirs (2, 2)",
    ),
}


@pytest.mark.parametrize(("ours", "theirs", "cause"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_cause_is_read_off_functions(ours, theirs, cause):
    parity = verdict(ours, theirs)
    assert not parity.passed
    assert parity.first_divergence.cause == cause
    assert parity.first_divergence.module == ""


@pytest.mark.parametrize(
    ("ours", "theirs", "cause"),
    [
        (F.relu6, F.relu, "ReLU6, theirs ReLU"),
        (F.hardswish, lambda x: F.hardswish(x), None),
        (F.hardtanh, partial(F.hardtanh, min_val=-2.0), "hard tanh, theirs hard tanh"),
        (partial(F.threshold, threshold=-5.0, value=0.0), partial(F.threshold, threshold=-6.0, value=0.0), "threshold"),
    ],
)
def test_activations_are_told_apart_where_no_number_shows_it(ours, theirs, cause):
    """Numbers stay within a hundredth of zero: what lies beyond is compared by the functions' definitions."""
    parity = verdict(ours, theirs, scale=1e-3)
    assert parity.max_relative_error.worst() < 1e-10
    if cause is None:
        assert parity.passed
    else:
        assert not parity.passed
        assert parity.first_divergence.cause.startswith(cause)
        assert parity.first_divergence.cause.endswith("they part beyond what these images excite")


ALIKE_WHERE_QUIET = {
    "hard swish without its ceiling": (lambda x: x * F.relu6(x + 3) / 6, lambda x: x * (x + 3).clamp(min=0) / 6),
    "hard swish without its floor": (F.hardswish, lambda x: x * (x + 3).clamp(max=6) / 6),
    "hard sigmoid without its ceiling": (F.hardsigmoid, lambda x: (x / 6 + 0.5).clamp(min=0)),
    "ReLU6 by minimum, at 7": (F.relu6, lambda x: torch.minimum(x.relu(), torch.tensor(7.0, dtype=x.dtype))),
    "a sigmoid that saturates": (torch.sigmoid, lambda x: torch.sigmoid(x.clamp(-9, 9))),
}


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize(("ours", "theirs"), ALIKE_WHERE_QUIET.values(), ids=ALIKE_WHERE_QUIET)
def test_functions_of_several_operations_are_told_apart_too(ours, theirs, scale):
    """With scale 1 by numbers: some channels are loud. With a thousandth by what the operations make of a number."""
    parities = verdict(ours, theirs, scale), verdict(theirs, ours, scale)
    assert not any(parity.passed for parity in parities)
    quiet = scale < 1
    assert all((parity.max_relative_error.worst() < 1e-10) == quiet for parity in parities)


SAME_WRITTEN_OTHERWISE = {
    "hard swish": (F.hardswish, lambda x: x * F.relu6(x + 3) / 6),
    "hard sigmoid": (F.hardsigmoid, lambda x: F.relu6(x + 3) / 6),
    "ReLU6": (F.relu6, lambda x: x.clamp(0, 6)),
    "Mish": (F.mish, lambda x: x * torch.tanh(F.softplus(x))),
    "a mask": (
        lambda x: (x * torch.arange(8.0, dtype=x.dtype).reshape(8, 1, 1)).relu(),
        lambda x: torch.arange(8.0, dtype=x.dtype).reshape(8, 1, 1) * x.clamp(min=0),
    ),
    "softplus": (F.softplus, lambda x: torch.log(1 + torch.exp(x))),
    "leaky ReLU": (partial(F.leaky_relu, negative_slope=0.1), lambda x: torch.maximum(x, 0.1 * x)),
    "SiLU": (F.silu, lambda x: x * torch.sigmoid(x)),
    "GELU": (F.gelu, lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5))),
    "mean": (lambda x: F.adaptive_avg_pool2d(x, 1).expand_as(x), lambda x: x.mean((2, 3), keepdim=True).expand_as(x)),
    "sum of slices": (lambda x: x + x.flip(1), lambda x: torch.stack([x, x.flip(1)]).sum(0)),
    "written in place": (lambda x: (x + 1) * 2, lambda x: x.clone().add_(1).mul_(2)),
    "written into slices": (
        lambda x: torch.cat([x[:, :4].relu(), x[:, 4:].tanh()], 1),
        lambda x: _written_into_slices(x),
    ),
}


def _written_into_slices(x):
    out = torch.empty_like(x)
    out[:, :4] = x[:, :4].relu()
    out[:, 4:] = x[:, 4:].tanh()
    return out


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize(("ours", "theirs"), SAME_WRITTEN_OTHERWISE.values(), ids=SAME_WRITTEN_OTHERWISE)
def test_what_is_written_otherwise_passes(ours, theirs, scale):
    parity = verdict(ours, theirs, scale)
    assert parity.passed, parity.first_divergence


def test_dropout_left_on_is_named():
    ours, theirs = (network("convnext_tiny", drop_rate=rate) for rate in (0.25, 0.0))
    parity = compare_networks(ours, theirs, images_for("convnext_tiny").double())
    assert parity.passed
    assert parity.same_random_draws is False
    assert parity.draws_difference == "head.drop draws 3x32 numbers of which it keeps 0.75, where theirs draws no more"


def test_drop_path_drawn_in_another_order_is_named():
    theirs = network("convnext_tiny", drop_path_rate=0.4)
    ours = copy.deepcopy(theirs)
    first, last = (ours.get_submodule(f"stages.{i}.blocks.0.drop_path") for i in (1, 3))
    first.drop_prob, last.drop_prob = last.drop_prob, first.drop_prob
    parity = compare_networks(ours, theirs, images_for("convnext_tiny").double())
    assert parity.passed
    assert parity.same_random_draws is False
    assert parity.draws_difference == (
        "stages.1.blocks.0.drop_path draws 3x1x1x1 numbers of which it keeps 0.6, "
        "where theirs (stages.1.blocks.0.drop_path) draws 3x1x1x1 numbers of which it keeps 0.9"
    )


def test_the_same_draws_pass():
    rates = {"drop_rate": 0.2, "drop_path_rate": 0.3}
    ours, theirs = (
        models.create_model("convnext_tiny", source=source, num_classes=10, **SMALL["convnext_tiny"], **rates)
        for source in ("cnnbench", "timm")
    )
    parity = compare_networks(ours, theirs, images_for("convnext_tiny").double())
    assert parity.passed and parity.same_random_draws is True and parity.draws_difference is None
