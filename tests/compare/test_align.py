"""Weights find their counterparts by what is done with them; checked by plain forward passes."""

import copy

import networks
import pytest
import timm
import torch
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.vision_transformer import VisionTransformer

from cnnbench.compare.parity import align, compare_networks

SIZE = 8


def images(size=SIZE, channels=4):
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def spread(network, seed):
    """Give every floating-point tensor random values, in the usual way: not the code under test's."""
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in network.state_dict().items():
        if key.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(0.5 * torch.randn(tensor.shape, generator=generator))
    return network


def assert_aligned(ours, theirs, x):
    """Weights of either load strictly into the other, which then computes the same."""
    ours, theirs = (spread(network, seed).double().eval() for seed, network in enumerate((ours, theirs)))
    alignment = align(ours, theirs, x)
    assert alignment.differences == ()
    assert alignment.method == "data flow"
    for way, source, target in ((alignment, ours, theirs), (alignment.inverse(), theirs, ours)):
        loaded = copy.deepcopy(target)
        loaded.load_state_dict(way.convert(source.state_dict(), target.state_dict()), strict=True)
        expected = source(x.clone())
        assert (target(x.clone()) - expected).abs().max() > 1e-3 * expected.abs().max()
        torch.testing.assert_close(loaded(x.clone()), expected, rtol=1e-11, atol=1e-11)
    return alignment


PAIRS = {
    "other names, registration and branch order, downsample first": (networks.Block, networks.OtherBlock),
    "branches built and run in another order": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 1), networks.Branches("abcd")),
        lambda: nn.Sequential(nn.Conv2d(4, 6, 1), networks.Branches("dbca")),
    ),
    "1x1 convolution against linear on channels last, bias apart": (networks.Pointwise, networks.PointwiseLast),
    "1x1 convolution against a bare matrix": (networks.Pointwise, networks.MatrixPointwise),
    "linear against a bare matrix": (networks.PointwiseLast, networks.MatrixPointwise),
    "a convolution as large as its map": (lambda: networks.classifier(True), lambda: networks.classifier(False)),
    "nested concatenations": (
        lambda: networks.Renamed(networks.Dense(running=True)),
        lambda: networks.Dense(running=False),
    ),
    "squeeze and excitation": (lambda: networks.Gate(True), lambda: networks.Gate(False)),
    "queries, keys and values apart, in another order": (
        lambda: networks.Renamed(networks.Attention(False, "qkv")),
        lambda: networks.Attention(False, "vkq"),
    ),
    "a joint projection against three": (lambda: networks.Attention(True), lambda: networks.Attention(False)),
    "a joint projection against three in another order": (
        lambda: networks.Attention(True),
        lambda: networks.Attention(False, "vqk"),
    ),
    "a parameter used twice": (lambda: networks.Twice(), lambda: networks.Renamed(networks.Twice())),
    "a parameter under two names": (lambda: networks.Twice(2), lambda: networks.Renamed(networks.Twice())),
}


@pytest.mark.parametrize(("ours", "theirs"), PAIRS.values(), ids=PAIRS)
def test_weights_find_their_counterparts(ours, theirs):
    # "branches in another order" share every key and shape: nested once more, their keys differ
    ours, theirs = ours(), theirs()
    same = ours.state_dict().keys() == theirs.state_dict().keys()
    assert_aligned(networks.Renamed(ours) if same else ours, theirs, images())


def test_a_joint_projection_is_the_same_function_as_three():
    parity = compare_networks(networks.Attention(True), networks.Attention(False), images())
    assert parity.passed, parity
    assert (parity.weights.ours, parity.weights.theirs) == (6, 10)


def test_vit_of_timm_and_of_torchvision():
    """Joint projections against nn.MultiheadAttention's packing, batch first against places first."""
    ours = timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=5
    )
    theirs = VisionTransformer(16, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=64, num_classes=5)
    nn.init.normal_(theirs.heads.head.weight)
    theirs.encoder.layers[0].ln_1.eps = 1e-6
    alignment = assert_aligned(ours, theirs, images(16, 3))
    assert alignment.mapping["cls_token"] == "class_token"
    assert (
        alignment.mapping["blocks.1.attn.qkv.weight"] == "encoder.layers.encoder_layer_1.self_attention.in_proj_weight"
    )


def test_convnext_of_timm_and_of_torchvision():
    ours = timm.create_model("convnext_tiny", dims=(8, 12, 16, 20), depths=(1, 2, 1, 1), num_classes=5)
    settings = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, 16, 2), CNBlockConfig(16, 20, 1), CNBlockConfig(20, None, 1)]
    assert_aligned(ours, ConvNeXt(settings, num_classes=5), images(64, 3))


def test_branches_that_nothing_tells_apart_are_tried():
    """Two like branches added up: either way is right; with unlike activations behind a product only one is."""

    class Sum(nn.Module):
        def __init__(self, order):
            super().__init__()
            self.parts = nn.ModuleDict({name: nn.Conv2d(4, 4, 1) for name in order})

        def forward(self, x):
            return torch.tanh(self.parts["a"](x)) * 2 + torch.relu(self.parts["b"](x))

    assert_aligned(networks.Renamed(Sum("ab")), Sum("ba"), images())


def test_same_keys_load_as_they_are():
    alignment = align(networks.Block(), networks.Block(), images())
    assert alignment.method == "same keys"
    assert all(entry.source == entry.target for entry in alignment.entries)


class Small(nn.Module):
    """Two convolutions and what else is asked for."""

    def __init__(self, between=None, more=None, bias=True):
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1, bias=bias)
        self.between, self.more = between, more

    def forward(self, x):
        x = self.one(x)
        x = x if self.between is None else self.between(x)
        x = self.two(x)
        return x if self.more is None else self.more(x)


DIFFERENCES = {
    "an operation more": (
        lambda: networks.Renamed(Small(more=nn.Conv2d(6, 6, 1))),
        Small,
        [
            "2 of 3 operations with parameters match; unmatched: ours inner.more (linear 6x6)",
            "ours only: inner.more.weight",
        ],
    ),
    "a bias less": (
        lambda: networks.Renamed(Small(bias=False)),
        Small,
        ["bias of two is only theirs"],
    ),
    "another width": (
        lambda: networks.Renamed(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 3))),
        lambda: nn.Sequential(nn.Conv2d(4, 5, 1), nn.Conv2d(5, 6, 3)),
        ["unmatched: ours inner.0 (linear 4x4)", "theirs 0 (linear 5x4)"],
    ),
    "one tensor where theirs has two": (
        lambda: networks.Renamed(nn.Sequential(*[nn.Linear(8, 8)] * 2)),
        lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)),
        ["inner.0.weight of ours is 0.weight and 1.weight of theirs"],
    ),
}


@pytest.mark.parametrize(("ours", "theirs", "said"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_what_has_no_counterpart_is_named(ours, theirs, said):
    parity = compare_networks(ours(), theirs(), images())
    assert not parity.passed
    for sentence in said:
        assert any(sentence in difference for difference in parity.weights.differences), parity.weights.differences


def test_what_differs_far_behind_leaves_the_rest_matched():
    """Blocks of like shapes run their projections first or last; something else differs behind them."""

    def network(first, last):
        return nn.Sequential(nn.Conv2d(4, 4, 3), networks.Block(), nn.Conv2d(6, 4, 1), networks.Repeated(first), last)

    ours = networks.Renamed(network(True, nn.Conv2d(4, 8, 1)))
    parity = compare_networks(ours, network(False, nn.Conv2d(4, 8, 3, padding=1)), images())
    unmatched = "ours inner.4 (linear 8x4); theirs 4 (convolution 8x4x3x3)"
    assert parity.weights.differences[0] == f"12 of 13 operations with parameters match; unmatched: {unmatched}"
    assert parity.first_divergence.module == "inner.4"


def test_a_missing_activation_is_named_with_its_neighbours():
    parity = compare_networks(networks.Renamed(Small()), Small(between=nn.ReLU()), images())
    assert parity.weights.differences == []
    assert parity.first_divergence.cause == "no ReLU between inner.one and inner.two, which theirs has"


def test_tensors_that_nobody_uses_keep_their_names():
    """Both sides have a head that this mode never runs."""

    class Second(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.one, self.unused = nn.Conv2d(4, 4, 3), nn.Linear(3, 2)
            self.add_module(name, nn.Conv2d(4, 6, 3))
            self.name = name

        def forward(self, x):
            return self.get_submodule(self.name)(self.one(x))

    alignment = align(Second("two"), Second("second"), images())
    assert alignment.differences == ()
    assert alignment.mapping["unused.weight"] == "unused.weight"
    assert alignment.mapping["two.weight"] == "second.weight"
