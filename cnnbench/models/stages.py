"""A network cut into its stages and its classifier, by what timm's contract says of it and by no names of our own."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from torch import nn

from cnnbench.errors import UserError, either
from cnnbench.models.weights import name_of


@dataclass(frozen=True)
class Part:
    """A stretch of a network that is trained, or frozen, as one.

    Attributes:
        name: As `feature_info` or the network calls it: `layer4`, `fc`.
        modules: Dotted names of the modules in it.
        parameters: Dotted names of the parameters in it.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]


def classifier_of(network: nn.Module) -> Part:
    """Return what makes logits of features: the last linear layer, or several, and heads that only training has.

    Args:
        network: Of timm's contract: it has `get_classifier`, or names the layer in its `pretrained_cfg`.

    Raises:
        UserError: It has none with parameters.
    """
    heads = _classifier_names(network)
    inside = [name for name, _ in network.named_modules() if _is_in(name, heads)]
    parameters = [name for name, _ in network.named_parameters() if _is_in(name, heads)]
    if not parameters:
        raise UserError(f"{name_of(network)} has no classifier to train: its get_classifier() gives none with weights")
    return Part(" and ".join(heads), tuple(inside), tuple(parameters))


def stages_of(network: nn.Module) -> list[Part]:
    """Return the stages of a network, from the images to the classifier, which is in none.

    A stage ends with a module of `feature_info` and begins where the one before ended, in the order in which the
    network registers its modules; what stands between the last of them and the classifier belongs to the last stage.
    A stretch without parameters, such as a last pooling, is no stage.

    Args:
        network: Of timm's contract: its `feature_info` names a module for each feature map.

    Raises:
        UserError: `feature_info` is not there, or names nothing in the network.
    """
    order = {name: position for position, (name, _) in enumerate(network.named_modules())}
    ends = _ends(network, list(order))
    head = classifier_of(network)
    modules: list[list[str]] = [[] for _ in ends]
    parameters: list[list[str]] = [[] for _ in ends]
    boundaries = sorted(ends)

    def stage_at(position: int) -> int:
        return min(bisect_left(boundaries, position), len(boundaries) - 1)

    for name, position in order.items():
        if name not in head.modules:
            modules[stage_at(position)].append(name)
    for name, _ in network.named_parameters():
        if name not in head.parameters:
            parameters[stage_at(order[name.rpartition(".")[0]])].append(name)
    parts = zip(boundaries, modules, parameters, strict=True)
    return [Part(ends[end], tuple(inside), tuple(own)) for end, inside, own in parts if own]


def feature_info_of(body: nn.Module, place: str) -> list[dict[str, Any]]:
    """Return what timm tells of the feature maps of a part of a network, with its modules as the network calls them.

    Args:
        body: Built with `features_only=True`; timm may have flattened the names of its modules.
        place: Name of the part in the network.
    """
    flat = {name.replace(".", "_") for name, _ in body.named_children()}
    infos = [dict(info) for info in body.feature_info.info]
    for info in infos:
        name = info["module"].replace(".", "_")
        info["module"] = f"{place}.{name if name in flat else info['module']}"
    return infos


def _classifier_names(network: nn.Module) -> list[str]:
    names = {module: name for name, module in network.named_modules()}
    classifier = network.get_classifier() if hasattr(network, "get_classifier") else None
    returned = classifier if isinstance(classifier, (tuple, list)) else (classifier,)
    configured = (getattr(network, "pretrained_cfg", None) or {}).get("classifier") or ()
    found = [names[module] for module in returned if module in names]
    found += [configured] if isinstance(configured, str) else configured
    found += [path.partition(".")[0] for path in getattr(network, "auxiliary_classifiers", ())]
    there = [name for name in dict.fromkeys(found) if name in names.values()]
    return [name for name in there if not _is_in(name, [other for other in there if other != name])]


def _ends(network: nn.Module, order: list[str]) -> dict[int, str]:
    """Return the position of each stage's last module -> the stage's name; timm names a few that are not there."""
    named = [info["module"] for info in getattr(network, "feature_info", None) or ()]
    ends: dict[int, str] = {}
    for stage in named:
        inside = [position for position, name in enumerate(order) if stage and _is_in(name, [stage])]
        if inside:
            ends.setdefault(inside[-1], stage)
    if not ends:
        detail = f" names {either([repr(name) for name in named[:3]])}, not there" if named else " is missing"
        raise UserError(f"{name_of(network)} cannot be cut into stages: its feature_info{detail}")
    return ends


def _is_in(name: str, parents: list[str]) -> bool:
    return any(f"{name}.".startswith(f"{parent}.") for parent in parents)
