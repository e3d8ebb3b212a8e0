"""torchvision's classifiers, called with timm's arguments."""

import inspect
from typing import Any

import torchvision
from torch import nn

from cnnbench.errors import UserError, did_you_mean

# Trained on images of mean 0.5; torchvision rescales in the network, `transform_input`, what came normalised otherwise.
RESCALING = ("googlenet", "inception_v3")


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
        pretrained: Whether to load its default weights; of another number of classes, the classifier stays
            random.
        num_classes: Outputs, at least 1.
        in_chans: 3.
        kwargs: Arguments of torchvision's own.

    Raises:
        UserError: If torchvision has no such classifier, or it cannot have that many channels or classes.
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
    if pretrained:
        _load(network, _default_weights(name).get_state_dict(check_hash=True))
    network.num_classes = num_classes
    network.pretrained_cfg = network.default_cfg = {**cfg, "architecture": name}
    return network


def _default_weights(name: str) -> Any:
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise UserError(f"torchvision has no model {name!r}{did_you_mean(name, names)}")
    return torchvision.models.get_model_weights(name).DEFAULT


def _load(network: nn.Module, weights: dict[str, Any]) -> None:
    """Load what fits: not a classifier of another number of classes, nor heads that are not there."""
    own = network.state_dict()
    fitting = {key: value for key, value in weights.items() if key in own and own[key].shape == value.shape}
    network.load_state_dict(fitting, strict=False)
