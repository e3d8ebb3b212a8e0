"""The registry: which architectures there are, who wrote them, and the network behind a name and a source."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

import timm
from torch import nn

from cnnbench.errors import UserError, did_you_mean
from cnnbench.models import timm_entries

Reference = str | Callable[..., nn.Module] | None


@dataclass(frozen=True)
class Paper:
    """Where an architecture comes from."""

    title: str
    authors: str
    year: int
    url: str


@dataclass(frozen=True)
class ModelInfo:
    """What the registry knows of a model.

    Attributes:
        name: timm's name wherever timm has the model.
        architecture: The module it is written in: "resnet".
        network: Its class.
        kwargs: The arguments that make this variant of the class.
        paper: Its source.
        reference: The model of other authors that it equals: "timm/resnet18", "torchvision/alexnet", a
            callable that assembles one, or None.
        feature_cfg: How timm extracts features from it, see `timm.models.build_model_with_cfg`.
        pretrained_cfg: Input size, mean, std, interpolation, crop and weights, as in timm.
        top1: ImageNet-1k accuracy in percent of the weights that `pretrained=True` loads, as their authors
            measured it; None where there are none.
    """

    name: str
    architecture: str
    network: type[nn.Module]
    kwargs: Mapping[str, Any]
    paper: Paper
    reference: Reference
    feature_cfg: Mapping[str, Any]
    pretrained_cfg: Mapping[str, Any]
    top1: float | None = None


_models: dict[str, ModelInfo] = {}


def register(
    network: type[nn.Module],
    paper: Paper,
    variants: Mapping[str, Mapping[str, Any]],
    *,
    reference: Reference = "timm/{name}",
    feature_cfg: Mapping[str, Any] | None = None,
    pretrained_cfg: Mapping[str, Any] | None = None,
    top1: Mapping[str, float] | None = None,
) -> None:
    """Add an architecture: every variant becomes a model here, and in timm as `cnnbench_<name>`.

    Args:
        network: The class that all variants share; it takes `num_classes` and `in_chans`.
        paper: Where it comes from.
        variants: For each model's name the arguments of `network` that make it.
        reference: What each variant must equal: "timm/<name>" or "torchvision/<name>", where `{name}` stands
            for the variant's; a callable that assembles it and takes `num_classes` and `in_chans`; or None.
        feature_cfg: Passed to timm for `features_only`: `out_indices` unless there are five feature maps, and
            `flatten_sequential=True` where the maps are children of a Sequential.
        pretrained_cfg: Entries that replace, or make up for, those that the reference publishes.
        top1: ImageNet-1k accuracy in percent of the published weights, by the variant's name.

    Raises:
        UserError: If a name belongs to another class already, or the reference does not exist.
    """
    for name, kwargs in variants.items():
        _refuse_taken(name, network)
        info = ModelInfo(
            name=name,
            architecture=network.__module__.rpartition(".")[2],
            network=network,
            kwargs=dict(kwargs),
            paper=paper,
            reference=reference.format(name=name) if isinstance(reference, str) else reference,
            feature_cfg=dict(feature_cfg or {}),
            pretrained_cfg={},
            top1=(top1 or {}).get(name),
        )
        cfg = timm_entries.add(info, dict(pretrained_cfg or {}))
        _models[name] = replace(info, pretrained_cfg=cfg)


def list_models(pattern: str = "*") -> list[str]:
    """Return the names that match a shell pattern, in natural order: resnet18, resnet34, ..., resnet101."""
    return sorted(filter(lambda name: fnmatch(name, pattern), _models), key=_natural)


def model_info(name: str) -> ModelInfo:
    """Return what the registry knows of a model; a tag after a dot, as in "resnet50.tv_in1k", is passed over.

    Raises:
        UserError: If there is no such model here.
    """
    name = name.partition(".")[0]
    if name in _models:
        return _models[name]
    elsewhere = "; timm has it: source='timm'" if timm.is_model(name) else did_you_mean(name, list_models())
    raise UserError(f"unknown model {name!r}{elsewhere or '; `python -m cnnbench models` lists them'}")


def is_registered(name: str) -> bool:
    """Tell whether there is a model of that name here."""
    return name.partition(".")[0] in _models


def _refuse_taken(name: str, network: type[nn.Module]) -> None:
    owner = _models[name].network if name in _models else network
    if (owner.__module__, owner.__qualname__) != (network.__module__, network.__qualname__):
        raise UserError(
            f"model {name!r} cannot be registered for {network.__module__}.{network.__qualname__}: "
            f"it belongs to {owner.__module__}.{owner.__qualname__}"
        )


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name)]
