"""Cost against published figures and figures worked out by hand."""

import pytest
from torch import nn

from cnnbench.compare.cost import measure_cost
from cnnbench.compare.sides import Side, side
from cnnbench.errors import UserError

IMAGE = (3, 224, 224)


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs", "millions"),
    [  # activations: timm's README and results; ResNet-50 in the RegNet paper, table 8
        ("resnet18", 11_689_512, 1.814, 2.5),
        ("resnet50", 25_557_032, 4.089, 11.1),
        ("mobilenetv2_100", 3_504_872, 0.301, 6.7),
        ("regnety_032", 19_436_338, 3.176, 11.3),
    ],
)
def test_published_figures_on_both_sides(name, parameters, gmacs, millions):
    cost = measure_cost(side(name), side(f"timm/{name}"), IMAGE)
    for one in (cost.ours, cost.theirs):
        assert one.parameters == parameters
        assert round(one.macs / 1e9, 3) == gmacs
        assert round(one.activations / 1e6, 1) == millions
        for what in ("parameters", "macs", "activations"):
            assert sum(getattr(stage, what) for stage in one.stages) == getattr(one, what)
    assert cost.ours == cost.theirs


def test_stages_of_a_resnet():
    stages = {stage.name: stage for stage in measure_cost(side("resnet18"), side("resnet18"), IMAGE).ours.stages}
    assert list(stages) == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert stages["fc"].parameters == 513_000 and stages["fc"].macs == 512_000 and stages["fc"].activations == 1000
    assert stages["layer1"].macs == 4 * 56 * 56 * 64 * 64 * 9
    assert stages["conv1"].activations == 64 * 112 * 112


def test_attention_counts_its_products():
    """A block of ViT-Tiny by hand: qkv, scores, weighted values, projection, and the two layers of the MLP."""
    cost = measure_cost(side("vit_tiny_patch16_224"), side("timm/vit_tiny_patch16_224"), IMAGE)
    tokens, width, heads = 197, 192, 3
    block = tokens * (3 * width + width + width + 4 * width + width) + heads * tokens**2
    assert cost.ours.activations == cost.theirs.activations == 196 * width + 12 * block + 1000
    stages = {stage.name: stage for stage in cost.ours.stages}
    assert stages["(network)"].parameters == (1 + tokens) * width


class NeedsData(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2 * 16, 5))
        self.scale = self[0].weight.abs().max().item()


def test_a_network_that_cannot_be_built_without_data():
    cost = measure_cost(Side("needs data", NeedsData), Side("needs data", NeedsData), (3, 4, 4))
    assert cost.ours.parameters == 8 + 165 and cost.ours.macs == 96 + 160 and cost.ours.activations == 32 + 5


def test_nothing_is_built_with_data_needlessly():
    """A network too large for any memory."""
    cost = measure_cost(*[Side("huge", lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 10**13)))] * 2, (3, 2, 2))
    assert cost.ours.macs == 12 * 10**13


def test_an_image_that_does_not_fit():
    with pytest.raises(UserError, match="3x8x8"):
        measure_cost(Side("five", NeedsData), Side("five", NeedsData), (3, 8, 8))
