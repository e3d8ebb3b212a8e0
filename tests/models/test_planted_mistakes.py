"""The parity check catches networks that are wrong: each mistake is planted into a copy of ours.

The mistakes, listed in `families/`, do not touch the state dict, so that nothing but what the network computes
can give them away.
"""

import copy

import pytest
import torch
from families import MISTAKES, SMALL, images_for, reference_source
from parity import TOLERANCE, compare, relative_errors
from plant import after
from torch import Tensor, nn

import cnnbench.models as models


@pytest.fixture(scope="module")
def pairs():
    """Builds each pair once, on first use."""

    class Pairs(dict):
        def __missing__(self, name):
            sources = ("cnnbench", reference_source(name))
            self[name] = [models.create_model(name, source=s, num_classes=10, **SMALL[name]) for s in sources]
            return self[name]

    return Pairs()


@pytest.mark.parametrize("name", SMALL)
def test_a_copy_without_mistake_passes(pairs, name):
    ours_model, theirs_model = pairs[name]
    assert compare(copy.deepcopy(ours_model), theirs_model, images_for(name)).equal


@pytest.mark.parametrize(
    ("name", "mistake"), [(name, mistake) for name, mistakes in MISTAKES.items() for mistake in mistakes]
)
def test_mistake_is_caught(pairs, name, mistake):
    ours_model, theirs_model = pairs[name]
    wrong_model = copy.deepcopy(ours_model)
    MISTAKES[name][mistake](wrong_model)
    parity = compare(wrong_model, theirs_model, images_for(name))
    assert parity.worst[1] > 1e3 * TOLERANCE, f"the worst error is {parity.worst}"


def test_another_order_of_additions_passes(pairs):
    """What is right but rounds differently is not taken for a mistake."""
    ours_model, theirs_model = copy.deepcopy(pairs["convnext_tiny"])

    def mlp_by_halves(mlp: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        hidden = mlp.act(mlp.fc1(x))
        halves = zip(hidden.chunk(2, -1), mlp.fc2.weight.chunk(2, -1), strict=True)
        return sum(half @ weight.T for half, weight in halves) + mlp.fc2.bias

    after("stages.2.blocks.0.mlp", mlp_by_halves)(ours_model)
    parity = compare(ours_model, theirs_model, images_for("convnext_tiny"))
    assert parity.equal
    assert parity.worst[1] > 0


def test_a_gradient_that_is_zero_but_for_rounding_is_judged_by_its_layer():
    theirs = {"gradient/conv.weight": torch.tensor([1.0, -2.0]), "gradient/conv.bias": torch.tensor([1e-17])}
    rounding = relative_errors({**theirs, "gradient/conv.bias": torch.tensor([-3e-17])}, theirs)
    wrong = relative_errors({**theirs, "gradient/conv.bias": torch.tensor([1e-8])}, theirs)
    assert rounding["gradient/conv.bias"] < TOLERANCE < wrong["gradient/conv.bias"]


@pytest.mark.parametrize("spoil", ["a parameter more", "a parameter less"])
def test_state_dict_that_differs_is_caught(pairs, spoil):
    ours_model, theirs_model = copy.deepcopy(pairs["lenet5"])
    if spoil == "a parameter more":
        ours_model.register_parameter("more", nn.Parameter(torch.zeros(1)))
    else:
        ours_model.c1.bias = None
    parity = compare(ours_model, theirs_model, images_for("lenet5"))
    assert not parity.equal
    assert parity.key_differences
