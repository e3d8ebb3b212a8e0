"""Our models in timm's registry: `timm.create_model("cnnbench_resnet50")` and timm's scripts run them."""

import inspect
import logging
import sys
import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import timm
from timm.models import DefaultCfg, PretrainedCfg, build_model_with_cfg, register_model
from torch import nn

from cnnbench.errors import UserError, did_you_mean
from cnnbench.models import torchvision_models

if TYPE_CHECKING:
    from cnnbench.models.registry import ModelInfo

PREFIX = "cnnbench_"

_log = logging.getLogger(__name__)

default_cfgs: dict[str, DefaultCfg] = {}  # timm's register_model looks an entry's weights up here, by this name


def add(info: "ModelInfo", overlay: dict[str, Any]) -> dict[str, Any]:
    """Register a model in timm as `cnnbench_<name>`.

    Args:
        info: The model.
        overlay: Entries of its pretrained configurations that replace those of the reference.

    Returns:
        Its default configuration, as a network of it carries in `pretrained_cfg`.
    """

    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return build(info, info.network, pretrained, **{**info.kwargs, **kwargs})

    entry.__name__ = entry.__qualname__ = PREFIX + info.name
    entry.__doc__ = f"{info.name} as written in cnnbench, after {info.paper.authors}, {info.paper.year}."
    default_cfgs[entry.__name__] = _published(info.reference, overlay)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Overwriting cnnbench_")  # a notebook cell that runs again
        register_model(entry)
    return timm.models.get_pretrained_cfg(entry.__name__).to_dict()


def build(info: "ModelInfo", network: Any, pretrained: bool, **kwargs: Any) -> nn.Module:
    """Build a network by timm's builder: defaults from the configuration, weights, features_only.

    Args:
        info: The model.
        network: Its class, or the callable that assembles its reference.
        pretrained: Whether to load the published weights.
        kwargs: The network's arguments and the builder's.
    """
    feature_cfg = dict(info.feature_cfg)
    return build_model_with_cfg(
        network,
        PREFIX + info.name,
        pretrained,
        feature_cfg=feature_cfg,
        pretrained_filter_fn=conversion(info.reference),
        **kwargs,
    )


def _published(reference: Any, overlay: dict[str, Any]) -> DefaultCfg:
    """Return the configurations, a tag each, that the reference's authors published, default first."""
    library, _, name = reference.partition("/") if isinstance(reference, str) else ("", "", "")
    if library == "timm":
        if not timm.is_model(name):
            near = did_you_mean(name, timm.list_models())
            raise UserError(f"unknown reference {reference!r}{near}; reference=None stands for none")
        cfgs = {cfg.tag or "": cfg for cfg in timm.models.get_arch_pretrained_cfgs(name).values()}
    elif library == "torchvision":
        cfgs = {"": PretrainedCfg(**torchvision_models.pretrained_cfg(name))}
    elif library:
        raise UserError(f"unknown reference {reference!r}: it starts with 'timm/' or 'torchvision/'")
    else:
        cfgs = {"": PretrainedCfg()}
    cfgs = {tag: replace(cfg, **overlay) for tag, cfg in cfgs.items()}
    return DefaultCfg(deque(cfgs), cfgs, is_pretrained=any(cfg.has_weights for cfg in cfgs.values()))


def conversion(reference: Any) -> Any:
    """Return the function of weights and network that brings published weights into the network's form.

    It is timm's own, where timm has one; besides, auxiliary heads that only one of both has do not matter.

    Args:
        reference: "timm/<name>", or anything else.
    """
    name = reference.partition("timm/")[2] if isinstance(reference, str) else ""
    module = sys.modules[timm.models.model_entrypoint(name).__module__] if timm.is_model(name) else None
    filters = [getattr(module, name) for name in ("checkpoint_filter_fn", "_filter_fn") if hasattr(module, name)]

    def convert(weights: Mapping[str, Any], network: nn.Module) -> Mapping[str, Any]:
        for of_timm in filters[:1]:
            takes_network = len(inspect.signature(of_timm).parameters) > 1
            weights = of_timm(weights, network) if takes_network else of_timm(weights)
        return _with_own_auxiliary_heads(weights, network)

    return convert


def _with_own_auxiliary_heads(weights: Mapping[str, Any], network: nn.Module) -> Mapping[str, Any]:
    """Leave out auxiliary heads that the network lacks; let one start anew that the weights lack, or its last layer.

    A head of which only a part is there stays as it is: loading it will name what is missing.
    """
    weights, own = dict(weights), network.state_dict()
    for path in getattr(network, "auxiliary_classifiers", ()):
        head = path.partition(".")[0] + "."
        wanted = [key for key in own if key.startswith(head)]
        published = [key for key in weights if key.startswith(head)]
        if not wanted:
            weights = {key: value for key, value in weights.items() if key not in published}
            continue
        last = [f"{path}.weight", f"{path}.bias"]
        others = any(key in own and key in weights and own[key].shape != weights[key].shape for key in last)
        anew = (last if others else []) if published else wanted
        weights |= {key: own[key] for key in anew if key in own}
        if anew:
            _log.warning("the auxiliary head %s starts anew", path if published else head[:-1])
    return weights
