"""Multiply-adds and parameters against hand-computed and published figures, and that counting changes nothing."""

import pytest
import timm
import torch
from torch import nn

from cnnbench import count_macs, count_parameters, create_model

# parameters, GMACs at timm's input size; attention unfused
FIGURES = {
    "densenet121": (7_978_856, 2.834),
    "efficientnet_b0": (5_288_548, 0.386),
    "convnext_tiny": (28_589_128, 4.456),
    "vit_tiny_patch16_224": (5_717_416, 1.254),
    "vit_base_patch16_224": (86_567_656, 17.564),
    "regnety_004": (4_344_144, 0.402),
    "resnet18": (11_689_512, 1.814),
    "resnet50": (25_557_032, 4.089),
    "mobilenetv2_100": (3_504_872, 0.301),
    "vgg11": (132_863_336, 7.609),
}
SLOW_FIGURES = {
    "vgg16": (138_357_544, 15.470),
    "vgg19_bn": (143_678_248, 19.632),
    "inception_v3": (23_834_568, 5.713),
    "resnet152": (60_192_808, 11.514),
    "resnetv2_50": (25_549_352, 4.089),
    "resnext50_32x4d": (25_028_904, 4.230),
    "resnext101_32x8d": (88_791_336, 16.414),
    "seresnet50": (28_088_024, 4.092),
    "seresnext50_32x4d": (27_559_896, 4.233),
    "densenet161": (28_681_000, 7.728),
    "densenet201": (20_013_928, 4.291),
    "mobilenetv1_100": (4_231_976, 0.569),
    "mobilenetv2_050": (1_968_680, 0.097),
    "mobilenetv2_140": (6_108_776, 0.582),
    "efficientnet_b1": (7_794_184, 0.687),
    "efficientnet_b4": (19_341_616, 3.064),
    "efficientnet_b5": (30_389_784, 9.404),
    "efficientnet_b7": (66_347_960, 37.746),
    "convnext_small": (50_223_688, 8.684),
    "convnext_base": (88_591_464, 15.355),
    "convnext_large": (197_767_336, 34.361),
    "vit_small_patch16_224": (22_050_664, 4.599),
    "vit_large_patch16_224": (304_326_632, 61.555),
    "vit_base_patch32_224": (88_224_232, 4.409),
    "regnetx_002": (2_684_792, 0.199),
    "regnetx_032": (15_296_552, 3.177),
    "regnety_032": (19_436_338, 3.176),
}


def agrees(name, parameters, gmacs):
    with torch.device("meta"):
        model = create_model(name, source="timm")
    assert count_parameters(model) == parameters
    assert f"{count_macs(model) / 1e9:.3f}" == f"{gmacs:.3f}"


@pytest.mark.parametrize("name", FIGURES)
def test_published_figures(name):
    agrees(name, *FIGURES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_FIGURES)
def test_more_published_figures(name):
    agrees(name, *SLOW_FIGURES[name])


def test_lenet5_by_hand():
    convolutions = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 6 * 25 + 120 * 16 * 25
    assert count_macs(create_model("lenet5"), 32) == convolutions + 120 * 84 + 84 * 10


def test_attention_of_every_kind_counts():
    """torch's own attention takes a fused path in evaluation, which its counter reads as nothing."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            tokens = x.flatten(2).mT  # (B, 16, 8)
            return self.attention(tokens, tokens, tokens)[0]

    assert count_macs(Attention().eval(), (8, 4, 4)) == 4 * 16 * 8 * 8 + 2 * 16 * 16 * 8


def test_shared_and_frozen_parameters():
    layer = nn.Linear(3, 3)
    layer.bias.requires_grad_(False)
    module = nn.Sequential(layer, nn.ReLU(), layer)
    assert count_parameters(module) == 12
    assert count_parameters(module, trainable_only=True) == 9


@pytest.mark.parametrize("training", [True, False])
def test_nothing_changes(training):
    model = timm.create_model("resnet18", drop_path_rate=0.5, num_classes=3).train(training)
    model.layer1.eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = [*model.parameters()]
    random, fast = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    count_macs(model, 64)
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(own is earlier and own.grad is None for own, earlier in zip(model.parameters(), parameters, strict=True))
    assert all(own.requires_grad for own in parameters)
    assert torch.equal(random, torch.get_rng_state())
    assert fast == torch.backends.mha.get_fastpath_enabled()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
