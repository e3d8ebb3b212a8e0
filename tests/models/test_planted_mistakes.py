"""The parity check catches networks that are wrong: each mistake is planted into a copy of ours.

The mistakes, listed in `families/`, do not touch the state dict, so that nothing but what the network computes
can give them away.
"""

import copy

import pytest
from families import MISTAKES, SMALL, images_for, reference_source
from plant import after
from torch import Tensor, nn

import cnnbench.models as models
from cnnbench.compare.numbers import TOLERANCE
from cnnbench.compare.parity import compare_networks

ALWAYS = 5  # mistakes of a model that are planted in every run; `make test-all` plants them all


@pytest.fixture(scope="module")
def pairs():
    """Builds each pair once, on first use."""

    class Pairs(dict):
        def __missing__(self, name):
            sources = ("cnnbench", reference_source(name))
            self[name] = [models.create_model(name, source=s, num_classes=10, **SMALL[name]) for s in sources]
            return self[name]

    return Pairs()


def spread(name: str) -> list:
    """Marks as slow all but a few mistakes of a model, taken evenly; all but one where no small form of it exists."""
    names = list(MISTAKES[name])
    often = max(1, len(names) // (ALWAYS if SMALL[name] else 1))
    return [
        pytest.param(name, mistake, marks=[pytest.mark.slow] if i % often else []) for i, mistake in enumerate(names)
    ]


PLANTED = [planted for name in MISTAKES for planted in spread(name)]


@pytest.mark.parametrize(("name", "mistake"), PLANTED)
def test_mistake_is_caught(pairs, name, mistake):
    ours_model, theirs_model = pairs[name]
    wrong_model = copy.deepcopy(ours_model)
    MISTAKES[name][mistake](wrong_model)
    parity = compare_networks(wrong_model, theirs_model, images_for(name).double())
    assert not parity.passed or parity.same_random_draws is False, parity
    if not parity.passed:  # far from what rounding explains
        assert parity.max_relative_error.worst() > 1e3 * TOLERANCE
        assert parity.first_divergence is not None


def test_another_order_of_additions_passes(pairs):
    """What is right but rounds differently is not taken for a mistake."""
    ours_model, theirs_model = copy.deepcopy(pairs["convnext_tiny"])

    def mlp_by_halves(mlp: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        hidden = mlp.act(mlp.fc1(x))
        halves = zip(hidden.chunk(2, -1), mlp.fc2.weight.chunk(2, -1), strict=True)
        return sum(half @ weight.T for half, weight in halves) + mlp.fc2.bias

    after("stages.2.blocks.0.mlp", mlp_by_halves)(ours_model)
    parity = compare_networks(ours_model, theirs_model, images_for("convnext_tiny").double())
    assert parity.passed, parity
    assert parity.max_relative_error.worst() > 0
