"""torchvision's classifiers, called with timm's arguments."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from cnnbench.errors import UserError, did_you_mean
from cnnbench.models.weights import start_anew

# Trained on images of mean 0.5; torchvision rescales in the network, `transform_input`, what came normalised otherwise.
RESCALING = ("googlenet", "inception_v3")

_log = logging.getLogger(__name__)


def pretrained_cfg(name: str) -> dict[str, Any]:
    """Return timm's fields for a model of torchvision, read from its default weights.

    Args:
        name: A classifier of torchvision.

    Raises:
        UserError: If torchvision has no such classifier.
    """
    weights = _default_weights(name)
    transforms = weights.transforms()
    size, resized = transforms.crop_size[0], transforms.resize_size[0]
    rescaled = name in RESCALING
    return {
        "url": weights.url,
        "input_size": (3, size, size),
        "num_classes": len(weights.meta["categories"]),
        "crop_pct": size / resized,
        "interpolation": transforms.interpolation.value,
        "mean": (0.5,) * 3 if rescaled else tuple(transforms.mean),
        "std": (0.5,) * 3 if rescaled else tuple(transforms.std),
    }


def create(name: str, pretrained: bool = False, num_classes: int = 1000, in_chans: int = 3, **kwargs: Any) -> nn.Module:
    """Build a classifier of torchvision.

    Args:
        name: Its name there.
        pretrained: Whether to load its default weights. Last layers for another number of classes start anew, which
            is logged as a warning.
        num_classes: Outputs, at least 1.
        in_chans: 3.
        kwargs: Arguments of torchvision's own.

    Raises:
        UserError: If torchvision has no such classifier, it cannot have that many channels or classes, or the
            weights do not fit the arguments.
    """
    cfg = pretrained_cfg(name)
    if in_chans != 3:
        raise UserError(f"torchvision's {name} takes in_chans=3 only, not {in_chans}")
    if num_classes < 1:
        raise UserError(f"torchvision's {name} needs num_classes >= 1, not {num_classes}")
    if name in RESCALING:  # without auxiliary heads unless asked for, as in timm
        kwargs = {"aux_logits": False, "init_weights": True, **kwargs}
    accepted = inspect.signature(inspect.signature(torchvision.models.get_model_builder(name)).return_annotation)
    if "drop_rate" in kwargs and "dropout" in accepted.parameters:
        kwargs["dropout"] = kwargs.pop("drop_rate")
    network = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **kwargs)
    network.num_classes = num_classes
    if pretrained:
        _load(network, name, _published(name, kwargs.get("aux_logits", False)), (num_classes, cfg["num_classes"]))
    network.pretrained_cfg = network.default_cfg = {**cfg, "architecture": name}
    return network


def _default_weights(name: str) -> Any:
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise UserError(f"torchvision has no model {name!r}{did_you_mean(name, names)}")
    return torchvision.models.get_model_weights(name).DEFAULT


def _published(name: str, aux_logits: bool) -> dict[str, Tensor]:
    """Return the default weights under the names of today: torchvision renames those of older files as it builds.

    What the network that carries them draws for its start is put back, so that the next draws are not others.
    """
    auxiliary = {"aux_logits": True} if aux_logits else {}
    with torch.random.fork_rng(devices=[]):
        return torchvision.models.get_model(name, weights=_default_weights(name), **auxiliary).state_dict()


def _load(network: nn.Module, name: str, published: Mapping[str, Tensor], classes: tuple[int, int]) -> None:
    """Load weights, but not the last layers of another number of classes; heads that are not there do not matter."""
    own = network.state_dict()
    anew = {key: own[key] for key in own if key in published and own[key].shape != published[key].shape}
    for key in own:
        if key not in published or (key in anew and not _for_classes(own[key], published[key], classes)):
            raise UserError(f"torchvision's weights of {name} do not fit a network of these arguments: see {key}")
    network.load_state_dict({key: anew.get(key, published[key]) for key in own}, strict=True)
    if anew:
        _log.warning("torchvision's weights of %s are for other classes, so %s", name, start_anew([*anew]))


def _for_classes(own: Tensor, published: Tensor, classes: tuple[int, int]) -> bool:
    """Tell whether two tensors differ by their first sizes alone, and these are the numbers of classes."""
    return (own.shape[0], published.shape[0]) == classes and own.shape[1:] == published.shape[1:]
