"""EfficientNet's compound scaling, beside figures computed by hand and those that the paper prints."""

import pytest
import torch

import cnnbench.models as models
from cnnbench.layers import make_divisible
from cnnbench.models.efficientnet import SIZES, EfficientNet, compound_scaling


def test_the_rule():
    assert compound_scaling(0) == (1.0, 1.0, 224, 0.2)
    assert compound_scaling(1) == pytest.approx((1.2, 1.1, 258, 0.25))  # 224 x 1.15 = 257.6
    assert compound_scaling(2) == pytest.approx((1.44, 1.21, 296, 0.3))  # 224 x 1.3225 = 296.24
    assert compound_scaling(9).dropout == 0.5


def test_half_a_step_is_b1():
    scaling = compound_scaling(0.5)
    assert (round(scaling.depth, 1), scaling.resolution) == (SIZES["efficientnet_b1"].depth, 240)


@pytest.mark.parametrize("phi", [1, 3, 6])
def test_cost_doubles_with_every_step(phi):
    """The product of the paper's constants is 1.92."""
    scaling = compound_scaling(phi)
    cost = scaling.depth * scaling.width**2 * (scaling.resolution / 224) ** 2
    assert cost == pytest.approx(1.92**phi, rel=0.01)


def test_published_sizes():
    """The coefficients that the authors' code gives for B2 and B7."""
    assert SIZES["efficientnet_b2"]._asdict() == {"depth": 1.2, "width": 1.1, "resolution": 260, "dropout": 0.3}
    assert SIZES["efficientnet_b7"]._asdict() == {"depth": 3.1, "width": 2.0, "resolution": 600, "dropout": 0.5}


@pytest.mark.parametrize(
    ("channels", "width", "rounded"),
    [
        (16, 1.2, 24),  # 19.2: 16 would lose over 10 %
        (24, 1.2, 32),  # 28.8
        (32, 1.1, 32),  # 35.2: 32 loses 9 %
        (40, 1.4, 56),  # exactly 56
        (112, 1.1, 120),  # 123.2: the nearest
        (320, 1.6, 512),  # exactly 512
        (1280, 1.1, 1408),  # exactly 1408
        (3, 1.0, 8),  # one group at least
    ],
)
def test_rounding_of_widths(channels, width, rounded):
    assert make_divisible(channels * width) == rounded


def test_b3_by_hand():
    """Widths 32, 16, 24, 40, 80, 112, 192, 320 x 1.2 and repeats 1, 2, 2, 3, 3, 4, 1 x 1.4."""
    with torch.device("meta"):
        model = models.create_model("efficientnet_b3")
    assert model.conv_stem.out_channels == 40
    assert [stage[-1].bn3.num_features for stage in model.blocks[1:]] == [32, 48, 96, 136, 232, 384]
    assert model.blocks[0][-1].bn2.num_features == 24
    assert [len(stage) for stage in model.blocks] == [2, 3, 3, 5, 5, 6, 2]
    assert model.num_features == 1536


def test_a_network_of_any_size():
    scaling = compound_scaling(0.5)
    with torch.device("meta"):
        model = EfficientNet(channel_multiplier=scaling.width, depth_multiplier=scaling.depth, num_classes=10)
        logits = model(torch.empty(2, 3, scaling.resolution, scaling.resolution))
    assert logits.shape == (2, 10)
    assert [len(stage) for stage in model.blocks] == [2, 3, 3, 4, 4, 5, 2]
