"""Every registered model equals its reference; and the check that says so catches planted mistakes."""

import math

import pytest
import torch
from contract import NAMES
from families import PARAMETERS, SLOW, VARIATIONS, images_for, reference_source
from timm.layers import to_2tuple

import cnnbench.models as models
from cnnbench.compare.parity import compare_networks

# Parameters from which a model is compared in full size by `make test-all` only; its paper's smallest may have more.
LARGE, LARGE_OF_THE_SMALLEST = 20_000_000, 40_000_000

WITH_REFERENCE = [name for name in models.list_models() if models.model_info(name).reference is not None]


def on_meta(name: str, **kwargs) -> torch.nn.Module:
    with torch.device("meta"):
        return models.create_model(name, **kwargs)


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def state_dict_entries(model: torch.nn.Module) -> list[str]:
    """Key, shape and dtype of every entry, in order."""
    return [f"{key} {tuple(value.shape)} {value.dtype}" for key, value in model.state_dict().items()]


def assert_equal(ours_model: torch.nn.Module, theirs_model: torch.nn.Module, images: torch.Tensor) -> None:
    parity = compare_networks(ours_model, theirs_model, images.double())
    assert parity.passed, (parity.first_divergence, parity.weights, parity.max_relative_error)
    assert parity.weights.method == "same keys"
    assert parity.same_random_draws is not False, parity.draws_difference


def by_size(name: str):
    large = parameters(on_meta(name)) > (LARGE_OF_THE_SMALLEST if name in NAMES else LARGE)
    return pytest.param(name, marks=pytest.mark.slow) if name in SLOW or large else name


@pytest.mark.parametrize("name", models.list_models())
def test_parameter_count(name):
    assert parameters(on_meta(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_state_dict_is_the_references(name):
    assert state_dict_entries(on_meta(name)) == state_dict_entries(on_meta(name, source=reference_source(name)))


@pytest.mark.parametrize("name", [by_size(name) for name in WITH_REFERENCE])
def test_parity(name):
    ours_model = models.create_model(name, num_classes=10)
    theirs_model = models.create_model(name, source=reference_source(name), num_classes=10)
    assert_equal(ours_model, theirs_model, images_for(name, full_size=True))


LONGEST = ("inception_v3", "vgg13_bn", "vgg16")


def of_images(name: str, kwargs: dict, size: tuple[int, int] | None = None):
    """A variation, with the size of its images if it has one; large ones take long, and so do large networks."""
    takes_long = name in LONGEST or (size and math.prod(size) > 256**2)
    marks = [pytest.mark.slow] if takes_long else []
    return pytest.param(name, kwargs, size, marks=marks, id=f"{name}-{kwargs}")


@pytest.mark.parametrize(("name", "kwargs", "size"), [of_images(*variation) for variation in VARIATIONS])
def test_parity_of_arguments(name, kwargs, size):
    """Whatever argument both accept means the same to both."""
    kwargs = {"num_classes": 5, **kwargs}
    size = size or to_2tuple(kwargs.get("img_size") or images_for(name).shape[-1])
    images = torch.randn(3, kwargs.get("in_chans", models.pretrained_cfg(name)["input_size"][0]), *size)
    sources = ("cnnbench", reference_source(name))
    assert_equal(*(models.create_model(name, source=source, **kwargs) for source in sources), images)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_second_opinion(name):
    """torchvision's ResNet, by other authors, has the same keys and gives the same logits; by plain arithmetic here."""
    ours_model, theirs_model = (
        models.create_model(name, source=source, num_classes=10).double() for source in ("cnnbench", "torchvision")
    )
    generator = torch.Generator().manual_seed(0)
    for key, value in theirs_model.state_dict().items():
        if value.ndim == 1:  # scales and shifts of norms hide branches as they start
            value.uniform_(0.5, 1.5, generator=generator)
        assert key in ours_model.state_dict()
    ours_model.load_state_dict(theirs_model.state_dict(), strict=True)
    images = images_for(name).double()
    torch.testing.assert_close(ours_model(images), theirs_model(images), rtol=1e-12, atol=1e-10)
