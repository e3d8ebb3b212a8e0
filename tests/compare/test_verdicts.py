"""Every planted mistake is caught, and the first divergence names the module that it was planted in.

The mistakes of `tests/models/families` are planted into copies of our networks and of the references. They do not
touch the state dict: nothing but what the networks compute can give them away.
"""

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from families import MISTAKES, SMALL, images_for, reference_source
from plant import change, move_stride, replace
from torch import nn

import cnnbench.models as models
from cnnbench.compare.parity import compare_networks

LARGE = ("efficientnet_b0", "googlenet", "inception_v3", "vgg11", "vgg11_bn")  # no argument makes them small
EVERY = 3  # of the mistakes of a small network, one in so many is planted in an ordinary run
# Their modules are not built so that these would change what they compute.
NOT_IN_THE_REFERENCE = {
    "densenet121": ("max pool at the end", "ReLU after the 3x3 convolution"),
    "regnetx_002": ("max pool at the end",),
    "resnet50": ("max pool at the end",),
    "seresnet18": ("gate behind the addition",),
    "vit_tiny_patch16_224": ("one head",),
}
NOT_IN_OURS = {"seresnet18": ("gate behind the addition",)}  # its gate leaves the state dict
# Where a mistake is not planted through a path: the modules that it changes.
PATHS = {
    "LRN behind the max pool": ("features.2", "features.3"),
    "LRN in front of the ReLU": ("features.5", "features.6"),
    "interleaved groups": ("layer2.1.conv2",),
    "attention's dropout left on": ("blocks.0.attn",),  # its rate is read by the attention, which draws
}


@dataclass
class Verdict:
    """What became of a planted mistake."""

    where: str
    caught: bool
    named: bool
    said: str


class NotThereError(Exception):
    """A network has no such module."""


@contextmanager
def noted_paths():
    """Note the paths of the modules that are asked for; one that is not there cannot be replaced."""
    paths = []
    get, put = nn.Module.get_submodule, nn.Module.set_submodule

    def noted_get(network, path):
        paths.append(path)
        return get(network, path)

    def noted_put(network, path, module):
        paths.append(path)
        try:
            get(network, path)
        except AttributeError as error:
            raise NotThereError(path) from error
        put(network, path, module)

    nn.Module.get_submodule, nn.Module.set_submodule = noted_get, noted_put
    try:
        yield paths
    finally:
        nn.Module.get_submodule, nn.Module.set_submodule = get, put


def judged(name, mistake, plant, pair, side):
    """Plant a mistake into a copy of one side and compare; None where that side has no such module."""
    pair = [copy.deepcopy(network) for network in pair]
    with noted_paths() as paths:
        try:
            plant(pair[side])
        except (NotThereError, AttributeError):
            return None
    parity = compare_networks(*pair, images_for(name).double())
    paths = PATHS.get(mistake, paths)
    divergence = parity.first_divergence
    if divergence is not None:
        module = divergence.reference_module if side else divergence.module
        named = any(module == path or (path and module.startswith(f"{path}.")) for path in paths)
        said = f"{divergence.module} / {divergence.reference_module}: {divergence.cause}"
    else:
        said = parity.draws_difference or ""
        named = any(f"{path} " in said or f"({path})" in said for path in paths)
    caught = not parity.passed or parity.same_random_draws is False
    return Verdict(f"{('ours', 'theirs')[side]} {name}, {mistake}", caught, named, said)


def all_of(names, side, every):
    """Judge every so many of the mistakes of some networks; also return of how many networks."""
    verdicts, seen = [], set()
    for name in names:
        sources = ("cnnbench", reference_source(name))
        pair = [models.create_model(name, source=source, num_classes=10, **SMALL[name]) for source in sources]
        left_out = (NOT_IN_OURS, NOT_IN_THE_REFERENCE)[side].get(name, ())
        mistakes = [(what, plant) for what, plant in MISTAKES[name].items() if what not in left_out]
        for what, plant in mistakes[side % every :: every]:
            if (verdict := judged(name, what, plant, pair, side)) is not None:
                verdicts.append(verdict)
                seen.add(models.model_info(name).architecture)
    return verdicts, len(seen)


def assert_caught_and_named(verdicts):
    missed = [verdict.where for verdict in verdicts if not verdict.caught]
    assert not missed
    unnamed = [f"{verdict.where} -> {verdict.said}" for verdict in verdicts if not verdict.named]
    assert len(unnamed) <= 0.1 * len(verdicts), "\n".join(unnamed)


SMALL_NETWORKS = [name for name in MISTAKES if name not in LARGE]


def test_planted_mistakes_are_caught_and_named():
    ours, our_families = all_of(SMALL_NETWORKS, 0, EVERY)
    theirs, their_families = all_of(SMALL_NETWORKS, 1, EVERY)
    assert len(ours) >= 40 and our_families >= 10
    assert len(theirs) >= 30 and their_families >= 10
    assert_caught_and_named(ours + theirs)


@pytest.mark.slow
def test_all_planted_mistakes_are_caught_and_named():
    verdicts = [verdict for side in (0, 1) for verdict in all_of(MISTAKES, side, 1)[0]]
    assert len(verdicts) >= 300
    assert_caught_and_named(verdicts)


# ---------------------------------------------------------------------- causes


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


@pytest.mark.parametrize(("ours", "theirs"), ALIKE_WHERE_QUIET.values(), ids=ALIKE_WHERE_QUIET)
def test_functions_of_several_operations_are_driven_into_their_far_pieces(ours, theirs):
    assert not verdict(ours, theirs).passed
    assert not verdict(theirs, ours).passed


SAME_WRITTEN_OTHERWISE = {
    "hard swish": (F.hardswish, lambda x: x * F.relu6(x + 3) / 6),
    "hard sigmoid": (F.hardsigmoid, lambda x: F.relu6(x + 3) / 6),
    "ReLU6": (F.relu6, lambda x: x.clamp(0, 6)),
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


@pytest.mark.parametrize(("ours", "theirs"), SAME_WRITTEN_OTHERWISE.values(), ids=SAME_WRITTEN_OTHERWISE)
def test_what_is_written_otherwise_passes(ours, theirs):
    parity = verdict(ours, theirs)
    assert parity.passed, parity.first_divergence


# ---------------------------------------------------------------------- draws


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
