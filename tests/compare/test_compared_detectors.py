"""Detectors as sides of a comparison: they learn the same objects, and a mistake in one is found."""

from functools import partial

import pytest
import torch
from torch import nn

from cnnbench.compare.cost import measure_cost
from cnnbench.compare.detectors import compared_detector
from cnnbench.compare.parity import check_parity, compare_networks, images
from cnnbench.compare.probe import check_comparable
from cnnbench.compare.sides import Side, reference_of, side
from cnnbench.errors import UserError

SIZE = (3, 64, 64)
OPTIONS = {
    "retinanet": {"anchor_sizes": [[8], [16], [32], [48], [64]]},
    "faster_rcnn": {"anchor_sizes": [[8], [16], [32], [48], [64]], "representation_size": 16, "canonical_size": 28},
}


def small(name, source):
    options = {"num_classes": 3, "backbone": "resnet18", "fpn_channels": 8, **OPTIONS[name]}
    return Side(f"{source}/{name}", partial(compared_detector, name, source, **options), SIZE)


def mistaken():
    network = small("retinanet", "cnnbench").make()
    network.bg_iou_thresh = 0.45
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_a_detector_equals_torchvisions_in_losses_detections_gradients_draws_and_cost(name):
    ours, theirs = small(name, "cnnbench"), small(name, "torchvision")
    check_comparable(ours, theirs, SIZE)
    found = check_parity(ours, theirs, SIZE)
    assert found.passed, found.first_divergence
    assert found.weights.matched == found.weights.ours == found.weights.theirs
    assert found.same_random_draws is (True if name == "faster_rcnn" else None)
    cost = measure_cost(ours, theirs, SIZE)
    assert cost.ours.macs == cost.theirs.macs > 0 and cost.ours.parameters == cost.theirs.parameters


@pytest.mark.slow
def test_a_mistake_that_only_the_losses_show_is_found():
    found = check_parity(Side("mistaken", mistaken, SIZE), small("retinanet", "torchvision"), SIZE)
    assert not found.passed and found.max_relative_error.logits > 1e-6


class Bounded(nn.Module):
    """An exponential behind a bound that no image reaches, as in the decoding of boxes."""

    def __init__(self, bound):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bound = bound

    def forward(self, x):
        x = self.conv(x)
        return torch.exp(x if self.bound is None else x.clamp(max=self.bound))


@pytest.mark.parametrize(("bound", "equal"), [(30.0, True), (31.0, False), (None, False)])
def test_a_bound_that_is_never_met_is_compared_and_does_not_confuse(bound, equal):
    found = compare_networks(Bounded(bound), Bounded(30.0), images((3, 8, 8)))
    assert found.passed is equal
    assert equal or "they part beyond what these images excite" in found.first_divergence.cause


def test_names_of_detectors_are_sides():
    assert reference_of("fasterrcnn_resnet50_fpn").label == "torchvision/fasterrcnn_resnet50_fpn"
    network = side("retinanet").build(backbone="resnet18", num_classes=2)
    losses = network(torch.zeros(2, 3, 64, 64))
    assert set(losses) == {"loss_classes", "loss_box"}
    assert isinstance(network.eval()(torch.zeros(1, 3, 64, 64)), list)
    with pytest.raises(UserError, match="yolo"):
        reference_of("yolo")
