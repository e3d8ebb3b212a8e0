"""The models on which timm's interface is tested: the smallest of every architecture, each in its small form."""

import inspect
import math

import pytest
import torch
from families import SMALL, reference_source
from torch import nn

import cnnbench.models as models


def smallest_of_each_architecture() -> list[str]:
    """A file may hold what several papers add to one network: the smallest of each paper."""
    smallest: dict[tuple[str, str], tuple[int, str]] = {}
    for name in models.list_models():
        with torch.device("meta"):
            count = sum(p.numel() for p in models.create_model(name, **SMALL.get(name, {})).parameters())
        architecture = (models.model_info(name).architecture, models.model_info(name).paper.title)
        smallest[architecture] = min(smallest.get(architecture, (math.inf, "")), (count, name))
    return sorted(name for _, name in smallest.values())


NAMES = smallest_of_each_architecture()
BESIDE_TIMM = [name for name in NAMES if reference_source(name) == "timm"]  # torchvision's have no such interface
every_architecture = pytest.mark.parametrize("name", NAMES)
beside_timm = pytest.mark.parametrize("name", BESIDE_TIMM)


def create(name: str, source: str = "cnnbench", **kwargs) -> nn.Module:
    """The small network that `families` gives for a model."""
    return models.create_model(name, source=source, **{**SMALL.get(name, {}), **kwargs})


def ours_and_theirs(name: str, **kwargs) -> tuple[nn.Module, nn.Module]:
    """Both in evaluation mode, with the same weights, in which no norm hides a branch."""
    ours_model = create(name, **kwargs).eval()
    theirs_model = create(name, reference_source(name), **kwargs).eval()
    for parameter in ours_model.parameters():
        nn.init.normal_(parameter, std=0.1)
    theirs_model.load_state_dict(ours_model.state_dict(), strict=True)
    return ours_model, theirs_model


def arguments_of(name: str) -> set[str]:
    return set(inspect.signature(models.model_info(name).network).parameters)
