"""Ours against torchvision's in float64 with random weights: losses, gradients, detections, and each part by itself."""


import pytest
import torch

from cnnbench.compare.prepare import randomise
from cnnbench.models.detection import create_detector

SMALL = {
    "faster_rcnn": {"anchor_sizes": [[8], [16], [32], [48], [64]], "representation_size": 32, "canonical_size": 56},
    "retinanet": {"anchor_sizes": [[8, 12], [16, 24], [32, 40], [48, 56], [64, 80]], "score_thresh": 0.3},
}
COMMON = {"backbone": "resnet18", "num_classes": 3, "fpn_channels": 16}
SIZES = torch.tensor([[96, 128], [70, 100]])


def pair(name, **kwargs):
    """Ours and torchvision's with the same random weights, float64."""
    networks = [create_detector(name, source=source, **COMMON, **SMALL[name], **kwargs).double() for source in SOURCES]
    return exchanged(*networks)


SOURCES = ("cnnbench", "torchvision")


def exchanged(ours, theirs):
    state = theirs.state_dict()
    randomise(state, seed=0)
    ours.load_state_dict(state, strict=True)
    assert state.keys() == ours.state_dict().keys()
    return ours, theirs


@pytest.fixture
def images():
    return torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def targets():
    boxes = torch.tensor([[4.0, 6, 40, 50], [30, 20, 90, 80], [60, 60, 75, 70]], dtype=torch.float64)
    return [
        {"boxes": boxes, "labels": torch.tensor([0, 2, 1])},
        {"boxes": boxes[1:], "labels": torch.tensor([1, 1])},
    ]


def trained(network, images, targets, sizes=SIZES):
    torch.manual_seed(0)
    losses = network.train()(images, targets, sizes)
    network.zero_grad()
    sum(losses.values()).backward()
    return losses, {name: parameter.grad for name, parameter in network.named_parameters()}


def assert_equal(mine, other, tolerance=1e-9):
    assert mine.keys() == other.keys()
    for key in mine:
        scale = max(other[key].abs().max().item(), 1e-6) if other[key].numel() else 1.0
        torch.testing.assert_close(
            mine[key], other[key], rtol=0, atol=tolerance * scale, msg=lambda m, key=key: f"{key}: {m}"
        )


@pytest.mark.parametrize("name", SMALL)
def test_losses_gradients_and_detections_are_torchvisions(name, images, targets):
    ours, theirs = pair(name)
    mine, other = (trained(network, images, targets) for network in (ours, theirs))
    assert_equal(mine[0], other[0])
    assert_equal(mine[1], other[1])
    found = [network.eval()(images, sizes=SIZES) for network in (ours, theirs)]
    assert all(len(of_image["boxes"]) > 5 for of_image in found[0])
    for mine, other in zip(*found, strict=True):
        assert_equal(mine, other)
        assert mine["boxes"][:, 2].max() <= 128 and (mine["scores"].diff() <= 0).all()
    assert found[0][1]["boxes"][:, 2].max() <= 100 and found[0][1]["boxes"][:, 3].max() <= 70


@pytest.mark.parametrize("name", SMALL)
def test_losses_without_objects_are_torchvisions_and_finite(name, images, targets):
    nothing = [{"boxes": torch.zeros(0, 4, dtype=torch.float64), "labels": torch.zeros(0, dtype=torch.int64)}] * 2
    ours, theirs = pair(name)
    for truth in (nothing, [targets[0], nothing[0]]):
        mine, other = (trained(network, images, truth) for network in (ours, theirs))
        assert all(torch.isfinite(loss) for loss in mine[0].values())
        assert_equal(mine[0], other[0])
        assert_equal(mine[1], other[1])
