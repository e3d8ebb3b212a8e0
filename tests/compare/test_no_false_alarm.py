"""What is right passes: a network against its copy, against its channels-last run, timm against torchvision."""

import copy

import pytest
import timm
import torch
import torchvision.models as tv
from families import SMALL, images_for, reference_source
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.vision_transformer import VisionTransformer

import cnnbench.models as models
from cnnbench.compare.parity import compare_networks, images

SLOW = {
    *("efficientnet_b0", "googlenet", "inception_v3", "vgg11", "vgg11_bn"),  # no argument makes them small
    *("resnet50", "seresnet50", "resnetv2_50", "regnetx_002"),  # the second of their papers
}
RIGHT = 1e-11  # what a right pair stays under; the tolerance is ten times that


def by_size(name):
    return pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name


class ChannelsLast(nn.Module):
    """A network that keeps its weights and maps with channels last in memory."""

    def __init__(self, network):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, x):
        return self.network(x.to(memory_format=torch.channels_last))


def assert_equal(parity):
    assert parity.passed, (parity.first_divergence, parity.weights.differences, parity.max_relative_error)
    assert parity.max_relative_error.worst() < RIGHT
    assert parity.first_divergence is None


@pytest.mark.parametrize("name", [by_size(name) for name in SMALL])
def test_a_reference_equals_its_copy_and_its_channels_last_run(name):
    network = models.create_model(name, source=reference_source(name), num_classes=10, **SMALL[name])
    _, channels, size, _ = images_for(name).shape
    size = 64 if name.startswith("mobilenet") else size  # at 32 the last batch norms see a position an image
    parity = compare_networks(network, copy.deepcopy(network), images((channels, size, size)))
    assert_equal(parity)
    assert parity.max_relative_error.worst() == 0
    assert parity.same_random_draws is not False
    last = compare_networks(ChannelsLast(copy.deepcopy(network)), network, images((channels, size, size)))
    assert_equal(last)
    assert last.weights.matched == last.weights.theirs


def small_vit(**kwargs):
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=2, num_classes=10, **kwargs
    )


def small_convnext():
    settings = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 24, 1), CNBlockConfig(24, 32, 2), CNBlockConfig(32, None, 1)]
    return ConvNeXt(settings, num_classes=10)


def small_regnet():
    """torchvision's of the widths that our family's small RegNet-Y has."""
    network = models.create_model("regnety_002", source="timm", num_classes=10, **SMALL["regnety_002"])
    parameters = BlockParams.from_init_params(depth=6, w_0=8, w_a=8, w_m=1.5, group_width=4, se_ratio=0.25)
    return network, RegNet(parameters, num_classes=10, stem_width=8)


def timm_resnet(**kwargs):
    return timm.create_model("resnet50", channels=(8, 16, 24, 32), layers=(1, 1, 2, 1), num_classes=10, **kwargs)


PAIRS = {
    "vit": (small_vit, lambda: VisionTransformer(32, 8, 3, 2, 32, 128, num_classes=10), 32),
    "vit, the other way round": (lambda: VisionTransformer(32, 8, 3, 2, 32, 128, num_classes=10), small_vit, 32),
    "convnext": (
        lambda: timm.create_model("convnext_tiny", dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), num_classes=10),
        small_convnext,
        64,
    ),
    "densenet": (
        lambda: timm.create_model("densenet121", growth_rate=4, block_config=(2, 3, 1, 2), num_classes=10),
        lambda: tv.DenseNet(4, (2, 3, 1, 2), num_init_features=8, num_classes=10),
        64,
    ),
    "regnety": (lambda: small_regnet()[0], lambda: small_regnet()[1], 64),
}
# Of full size, at 64 pixels where they take these.
FULL = {
    "resnet18": 64,
    "resnext50_32x4d": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "mobilenetv2_100": 64,
    "regnetx_008": 64,
    "regnety_004": 64,
    "convnext_tiny": 64,
    "vgg11_bn": 224,
    "googlenet": 64,
    "inception_v3": 107,
}
OTHERS = {"mobilenetv2_100": "mobilenet_v2", "regnety_004": "regnet_y_400mf", "regnetx_008": "regnet_x_800mf"}


@pytest.mark.parametrize(("ours", "theirs", "size"), PAIRS.values(), ids=PAIRS)
def test_timm_equals_torchvision_where_both_can_be_small(ours, theirs, size):
    assert_equal(compare_networks(ours(), theirs(), images((3, size, size))))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), FULL.items())
def test_timm_equals_torchvision(name, size):
    source = "cnnbench" if name in ("googlenet", "inception_v3") else "timm"
    ours = models.create_model(name, source=source, num_classes=1000)
    theirs = tv.get_model(OTHERS.get(name, name), weights=None, num_classes=1000, **QUIET.get(name, {}))
    assert_equal(compare_networks(ours, theirs, images((3, size, size))))


QUIET = {name: {"init_weights": False, "aux_logits": False} for name in ("googlenet", "inception_v3")}


def test_another_order_of_additions_passes():
    """What is right but rounds differently is not taken for a mistake."""
    theirs = small_vit()
    ours = copy.deepcopy(theirs)
    mlp = ours.blocks[1].mlp

    def by_halves(module, args, output):
        hidden = module.act(module.fc1(args[0]))
        halves = zip(hidden.chunk(2, -1), module.fc2.weight.chunk(2, -1), strict=True)
        return sum(half @ weight.T for half, weight in halves) + module.fc2.bias

    mlp.register_forward_hook(by_halves)
    parity = compare_networks(ours, theirs, images((3, 32, 32)))
    assert parity.max_relative_error.worst() > 0
    assert_equal(parity)
