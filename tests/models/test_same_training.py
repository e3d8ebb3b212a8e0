"""Under one seed ours and the reference start, drop out and train alike, to the last bit of float32.

To a billionth in float64, where ours adds in another order.
"""

import inspect

import pytest
import torch
from contract import NAMES
from families import REORDERED, SLOW, SMALL, images_for, reference_source
from torch import nn

import cnnbench.models as models

OPTIMISERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=1e-4),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05),
}


def seeded(name: str, source: str, **kwargs) -> nn.Module:
    torch.manual_seed(3)
    return models.create_model(name, source=source, **kwargs)


@pytest.mark.parametrize("name", [name for name in models.list_models() if name not in SLOW])
def test_same_initial_weights(name):
    """One seed gives both the same initial weights, and leaves the generator where the other leaves it."""
    ours = seeded(name, "cnnbench").state_dict()
    ours_state = torch.get_rng_state()
    theirs = seeded(name, reference_source(name)).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert torch.equal(ours_state, torch.get_rng_state())


LONGEST = ("inception_v3", "vgg11")
PAIRS = [  # one optimiser in every run, the other by test-all, and with it the networks that take longest
    pytest.param(name, optimiser, marks=[] if optimiser == "sgd" and name not in LONGEST else [pytest.mark.slow])
    for name in NAMES
    for optimiser in OPTIMISERS
]


@pytest.mark.parametrize(("name", "optimiser"), PAIRS)
def test_same_losses(name, optimiser):
    rates = {"drop_rate": 0.2, "drop_path_rate": 0.3}
    accepted = inspect.signature(models.model_info(name).network).parameters
    kwargs = SMALL.get(name, {}) | {key: value for key, value in rates.items() if key in accepted}
    sources = ("cnnbench", reference_source(name))
    dtype = torch.float64 if name in REORDERED else torch.float32
    ours, theirs = (
        train(seeded(name, source, num_classes=10, **kwargs).to(dtype), optimiser, images_for(name, 8).to(dtype))
        for source in sources
    )
    assert ours == (pytest.approx(theirs, rel=1e-9) if name in REORDERED else theirs)
    assert len(set(ours)) == len(ours)


def train(model: nn.Module, optimiser: str, images: torch.Tensor, steps: int = 10) -> list[float]:
    optimiser = OPTIMISERS[optimiser](model.parameters())
    generator = torch.Generator().manual_seed(5)
    losses = []
    for _ in range(steps):
        images.normal_(generator=generator)
        classes = torch.randint(10, (len(images),), generator=generator)
        outputs = model(images)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)  # auxiliary heads learn too
        loss = sum(nn.functional.cross_entropy(output, classes) for output in outputs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses
