"""Every registered model equals its reference; and the check that says so catches planted mistakes."""

import math

import pytest
import torch
from families import PARAMETERS, SLOW, VARIATIONS, images_for, reference_source
from parity import compare, randomise, state_dict_differences
from timm.layers import to_2tuple

import cnnbench.models as models

LARGE = 40_000_000  # parameters from which a model is compared in full size by `make test-all` only

WITH_REFERENCE = [name for name in models.list_models() if models.model_info(name).reference is not None]


def on_meta(name: str, **kwargs) -> torch.nn.Module:
    with torch.device("meta"):
        return models.create_model(name, **kwargs)


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def by_size(name: str):
    return pytest.param(name, marks=pytest.mark.slow) if name in SLOW or parameters(on_meta(name)) > LARGE else name


@pytest.mark.parametrize("name", models.list_models())
def test_parameter_count(name):
    assert parameters(on_meta(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_state_dict_is_the_references(name):
    assert state_dict_differences(on_meta(name), on_meta(name, source=reference_source(name))) == []


@pytest.mark.parametrize("name", [by_size(name) for name in WITH_REFERENCE])
def test_parity(name):
    ours_model = models.create_model(name, num_classes=10)
    theirs_model = models.create_model(name, source=reference_source(name), num_classes=10)
    parity = compare(ours_model, theirs_model, images_for(name, full_size=True))
    assert parity.equal, (parity.worst, parity.key_differences)


def of_images(name: str, kwargs: dict, size: tuple[int, int] | None = None):
    """A variation, with the size of its images if it has one; large ones take long."""
    marks = [pytest.mark.slow] if size and math.prod(size) > 256**2 else []
    return pytest.param(name, kwargs, size, marks=marks, id=f"{name}-{kwargs}")


@pytest.mark.parametrize(("name", "kwargs", "size"), [of_images(*variation) for variation in VARIATIONS])
def test_parity_of_arguments(name, kwargs, size):
    """Whatever argument both accept means the same to both."""
    kwargs = {"num_classes": 5, **kwargs}
    size = size or to_2tuple(kwargs.get("img_size") or images_for(name).shape[-1])
    images = torch.randn(3, kwargs.get("in_chans", models.pretrained_cfg(name)["input_size"][0]), *size)
    sources = ("cnnbench", reference_source(name))
    parity = compare(*(models.create_model(name, source=source, **kwargs) for source in sources), images)
    assert parity.equal, (parity.worst, parity.key_differences)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_second_opinion(name):
    """torchvision's ResNet, by other authors, has the same keys and gives the same logits."""
    ours_model, theirs_model = (
        models.create_model(name, source=source, num_classes=10).double() for source in ("cnnbench", "torchvision")
    )
    randomise(theirs_model, seed=0)
    ours_model.load_state_dict(theirs_model.state_dict(), strict=True)
    images = images_for(name).double()
    torch.testing.assert_close(ours_model(images), theirs_model(images), rtol=1e-12, atol=1e-10)
