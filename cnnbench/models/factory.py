"""A network by name and source, with a user's mistakes turned into one line."""

import inspect
import logging
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from cnnbench.errors import UserError, did_you_mean, first_line
from cnnbench.models import timm_entries, torchvision_models
from cnnbench.models.registry import is_registered, list_models, model_info
from cnnbench.models.weights import load_weights

SOURCES = ("cnnbench", "timm", "torchvision")
BUILDER_ARGUMENTS = ("features_only", "out_indices", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")

_log = logging.getLogger(__name__)


def create_model(
    name: str,
    *,
    source: str = "cnnbench",
    pretrained: bool = False,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a network.

    Args:
        name: A name of `list_models()`; with another source also a name that only that library has. A tag
            after a dot chooses among the published weights: "resnet50.tv_in1k".
        source: Who wrote it: "cnnbench", "timm" or "torchvision". "timm" gives the reference of a model of
            ours also where that had to be assembled from timm's layers, as for lenet5.
        pretrained: Load the published weights.
        weights: Load these instead: a `.safetensors` or `.pth` file, or a checkpoint of a run; see
            `cnnbench.models.load_weights`.
        class_names: Names of the classes, for `weights`: a classifier that a run trained for others starts anew.
        kwargs: `num_classes` (0: no classifier), `in_chans`, `global_pool`, `drop_rate`, `drop_path_rate`,
            `features_only` with `out_indices`, and the network's own; None stands for its default.

    Returns:
        The network, in training mode.

    Raises:
        UserError: If the name, the source or an argument is wrong, or there are no weights to load.
    """
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    cfg = pretrained_cfg(name, source)
    label = name if source == "cnnbench" else f"{source}'s {name}"
    _check_arguments(label, kwargs)
    if pretrained and not has_published_weights(cfg):
        raise UserError(f"{label} has no published weights: leave pretrained out")
    if weights is not None and (pretrained or kwargs.get("features_only")):
        other = "pretrained" if pretrained else "features_only"
        raise UserError(f"{label}: weights and {other} exclude each other")
    build = _builder(name, source)
    network = _built(build, label, pretrained, kwargs)
    if pretrained and source != "torchvision":  # which says it itself
        _tell_new_classifier(network, label)
    if weights is not None:
        load_weights(network, weights, _conversion(name, source), class_names)
    return network


def pretrained_cfg(name: str, source: str = "cnnbench") -> dict[str, Any]:
    """Return a model's input size, mean, std, interpolation and crop, without building it.

    Raises:
        UserError: If the name or the source is wrong.
    """
    library, name = _resolve(name, source)
    if library == "torchvision":
        return torchvision_models.pretrained_cfg(name)
    try:
        cfg = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = timm.list_models(f"{name.partition('.')[0]}.*", include_tags=True)
        shown = name.removeprefix(timm_entries.PREFIX)
        tags = [tag.removeprefix(timm_entries.PREFIX) for tag in tags]
        raise UserError(f"unknown weights {shown!r}{did_you_mean(shown, tags)}") from error
    return (cfg or timm.models.PretrainedCfg()).to_dict()


def _built(build: partial, label: str, pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    """Build a network; what its constructor makes of wrong arguments becomes a line."""
    try:
        return build(pretrained=pretrained, **kwargs)
    except UserError:
        raise
    except OSError as error:
        if not pretrained:
            raise
        failed = f"the weights of {label} could not be loaded"
        raise UserError(f"{failed}; start without them, or from a file: {first_line(error)}") from error
    except (TypeError, ValueError, AssertionError, IndexError) as error:
        if not kwargs:
            raise
        raise UserError(f"{label} {_explain(error, build, kwargs)}") from error


def _tell_new_classifier(network: nn.Module, label: str) -> None:
    """Say that the published classifier is for another number of classes, which timm does not."""
    published = getattr(network, "pretrained_cfg", {}).get("num_classes")
    wanted = getattr(network, "num_classes", published)
    if published and wanted and wanted != published:
        _log.warning("the published weights of %s are for %d classes, so its classifier starts anew", label, published)


def _conversion(name: str, source: str) -> Any:
    """Return what brings weights that were published in another form into that of the network."""
    if source == "torchvision":
        return None
    return timm_entries.conversion(model_info(name).reference if is_registered(name) else f"timm/{name}")


def _builder(name: str, source: str) -> partial:
    """Return the function that builds the network, to be called with `pretrained` and its arguments."""
    library, resolved = _resolve(name, source)
    if library == "torchvision":
        return partial(torchvision_models.create, resolved)
    if source == "timm" and is_registered(name) and callable(model_info(name).reference):
        info = model_info(name)
        return partial(timm_entries.build, info, network=info.reference)
    return partial(timm.create_model, resolved)


def _resolve(name: str, source: str) -> tuple[str, str]:
    """Return the library whose registry holds a model, timm or torchvision, and its name there."""
    if source not in SOURCES:
        raise UserError(f"unknown source {source!r}{did_you_mean(source, SOURCES)}")
    if source == "cnnbench":
        model_info(name)
        return "timm", timm_entries.PREFIX + name
    base, dot, tag = name.partition(".")
    reference = model_info(base).reference if is_registered(base) else None
    if source == "timm" and callable(reference):
        return "timm", timm_entries.PREFIX + name
    if isinstance(reference, str) and reference.startswith(f"{source}/"):
        base = reference.removeprefix(f"{source}/")
    elif source == "timm" and not timm.is_model(base):
        elsewhere = f"; the reference of {base!r} is {reference}" if reference else ""
        raise UserError(f"timm has no model {base!r}{elsewhere or did_you_mean(base, _timm_names())}")
    return source, base + dot + tag


def _timm_names() -> list[str]:
    return [*list_models(), *timm.list_models(exclude_filters=f"{timm_entries.PREFIX}*")]


def has_published_weights(cfg: dict[str, Any]) -> bool:
    """Return whether there are weights to download, by what `pretrained_cfg` returns."""
    return any(cfg.get(key) for key in ("url", "file", "hf_hub_id"))


def _check_arguments(label: str, kwargs: dict[str, Any]) -> None:
    for argument, least in (("in_chans", 1), ("num_classes", 0)):
        value = kwargs.get(argument, least)
        if not isinstance(value, int) or value < least:
            raise UserError(f"{label} needs {argument} to be a whole number of at least {least}, not {value!r}")
    if kwargs.get("features_only") and kwargs.get("aux_logits"):
        raise UserError(f"{label}: features_only and aux_logits exclude each other")
    if "out_indices" in kwargs and not kwargs.get("features_only"):
        raise UserError(f"{label} takes out_indices only together with features_only=True")


def _explain(error: Exception, build: partial, kwargs: dict[str, Any]) -> str:
    """Say what is wrong with the arguments; whoever calls puts the network's name in front."""
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unexpected:
        constructor = build.keywords.get("network") or type(_on_meta(build))
        accepted = {*inspect.signature(constructor).parameters, *BUILDER_ARGUMENTS}
        return f"has no argument {unexpected[1]!r}{did_you_mean(unexpected[1], sorted(accepted))}"
    if kwargs.get("features_only") and "out_indices" in kwargs:
        others = {key: value for key, value in kwargs.items() if key not in ("features_only", "out_indices")}
        count = len(_on_meta(build, **others).feature_info)
        return f"has the feature maps 0 to {count - 1}, not out_indices={kwargs['out_indices']}"
    arguments = ", ".join(f"{key}={value!r}" for key, value in kwargs.items())
    return f"cannot be built with {arguments}: {first_line(error)}"


def _on_meta(build: partial, **kwargs: Any) -> nn.Module:
    with torch.device("meta"):
        return build(**kwargs)
