"""Every registered model equals its reference; and the check that says so catches planted mistakes."""

import pytest
import torch
from parity import compare, randomise, state_dict_differences

import cnnbench.models as models

SLOW = 55_000_000  # parameters from which a model is compared by `make test-all` only

# from ARCHITECTURES.md
PARAMETERS = {
    "lenet5": 61_706,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
}

WITH_REFERENCE = [name for name in models.list_models() if models.model_info(name).reference is not None]


def on_meta(name: str, **kwargs) -> torch.nn.Module:
    with torch.device("meta"):
        return models.create_model(name, **kwargs)


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def images_for(name: str, batch: int = 3) -> torch.Tensor:
    """Random images, at most 64 pixels wide where the network is not made for one size."""
    cfg = models.pretrained_cfg(name)
    channels, height, width = cfg["input_size"]
    if not cfg["fixed_input_size"]:
        height, width = min(height, 64), min(width, 64)
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def reference_source(name: str) -> str:
    reference = models.model_info(name).reference
    return reference.partition("/")[0] if isinstance(reference, str) else "timm"


def by_size(name: str):
    return pytest.param(name, marks=pytest.mark.slow) if parameters(on_meta(name)) > SLOW else name


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count(name):
    assert parameters(on_meta(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_state_dict_is_the_references(name):
    assert state_dict_differences(on_meta(name), on_meta(name, source=reference_source(name))) == []


@pytest.mark.parametrize("name", [by_size(name) for name in WITH_REFERENCE])
def test_parity(name):
    ours_model = models.create_model(name, num_classes=10)
    theirs_model = models.create_model(name, source=reference_source(name), num_classes=10)
    parity = compare(ours_model, theirs_model, images_for(name))
    assert parity.equal, (parity.worst, parity.key_differences)


VARIATIONS = {
    "resnet18": {
        "channels": (8, 16, 24, 32),
        "layers": (2, 1, 1, 1),
        "in_chans": 1,
        "global_pool": "catavgmax",
    },
    "resnet50": {"channels": (8, 16, 24, 32), "layers": (1, 1, 2, 1), "global_pool": "avgmax"},
    "convnext_tiny": {"dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1), "patch_size": 2, "global_pool": "max"},
    "convnext_small": {"dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "patch_size": 1},
    "convnext_base": {
        "dims": (8, 16, 24, 32),
        "depths": (1,) * 4,
        "kernel_sizes": (3, 5, 7, 9),
        "global_pool": "",
    },
    "lenet5": {"in_chans": 3, "global_pool": "max"},
}


@pytest.mark.parametrize("name", VARIATIONS)
def test_parity_of_arguments(name):
    """Whatever argument both accept means the same to both."""
    kwargs = {"num_classes": 5, **VARIATIONS[name]}
    images = torch.randn(3, kwargs.get("in_chans", 3), 64, 64)
    parity = compare(models.create_model(name, **kwargs), models.create_model(name, source="timm", **kwargs), images)
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
