"""Which detectors there are, and the detector behind a name, a source and a backbone."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from cnnbench.errors import UserError, did_you_mean, first_line
from cnnbench.models.detection.backbone import create_backbone
from cnnbench.models.registry import Paper

SOURCES = ("cnnbench", "torchvision")
BACKBONE_ARGUMENTS = frozenset(
    name
    for name in inspect.signature(create_backbone).parameters
    if name not in ("name", "source", "pretrained", "in_chans")
)


@dataclass(frozen=True)
class DetectorInfo:
    """What is known of a detector.

    Attributes:
        name: What it is asked for by.
        network: Its class, of a backbone and a number of classes.
        paper: Its source.
        backbone: Arguments of `create_backbone` that are its defaults.
        reference: The class by torchvision that it equals over the same backbone; None: there is none.
    """

    name: str
    network: Callable[..., nn.Module]
    paper: Paper
    backbone: Mapping[str, Any] = field(default_factory=dict)
    reference: Callable[..., nn.Module] | None = None


_detectors: dict[str, DetectorInfo] = {}


def register_detector(info: DetectorInfo) -> None:
    """Add a detector."""
    _detectors[info.name] = info


def list_detectors() -> list[str]:
    """Return the names that `create_detector` takes."""
    return sorted(_detectors)


def detector_info(name: str) -> DetectorInfo:
    """Return what is known of a detector.

    Raises:
        UserError: There is none of that name.
    """
    if name not in _detectors:
        raise UserError(f"unknown detector {name!r}{did_you_mean(name, list_detectors())}")
    return _detectors[name]


def create_detector(
    name: str,
    *,
    source: str = "cnnbench",
    backbone: str = "resnet50",
    backbone_source: str = "cnnbench",
    num_classes: int,
    in_chans: int = 3,
    pretrained_backbone: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Build a detector.

    Args:
        name: One of `list_detectors()`.
        source: Who wrote neck and heads: "cnnbench" or "torchvision".
        backbone: The classifier whose feature maps it looks at, see `cnnbench.list_models()`.
        backbone_source: Who wrote that: "cnnbench" or "timm".
        num_classes: Classes of objects, without the background.
        in_chans: Channels of the images.
        pretrained_backbone: Load the classifier's published weights.
        kwargs: Arguments of the detector and of `create_backbone`; None stands for the default.

    Returns:
        The detector, in training mode; see `Detector.forward`.

    Raises:
        UserError: A name, a source or an argument is wrong.
    """
    info = detector_info(name)
    if source not in SOURCES:
        raise UserError(f"unknown source {source!r} of a detector{did_you_mean(source, SOURCES)}")
    build = info.network if source == "cnnbench" else info.reference
    if build is None:
        raise UserError(f"{source} has no {name}; there is source='cnnbench'")
    if not isinstance(num_classes, int) or num_classes < 1:
        raise UserError(f"{name} needs num_classes to be a whole number of at least 1, not {num_classes!r}")
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    of_backbone = {**info.backbone, **{key: kwargs.pop(key) for key in BACKBONE_ARGUMENTS & kwargs.keys()}}
    _refuse_unknown(name, build, kwargs)
    maps = create_backbone(
        backbone, source=backbone_source, pretrained=pretrained_backbone, in_chans=in_chans, **of_backbone
    )
    try:
        return build(maps, num_classes, **kwargs)
    except (TypeError, ValueError) as error:
        arguments = ", ".join(f"{key}={value!r}" for key, value in kwargs.items())
        raise UserError(f"{name} cannot be built with {arguments}: {first_line(error)}") from error


def _refuse_unknown(name: str, build: Callable[..., nn.Module], kwargs: Mapping[str, Any]) -> None:
    accepted = {*inspect.signature(build).parameters, *BACKBONE_ARGUMENTS} - {"backbone", "num_classes"}
    for argument in kwargs:
        if argument not in accepted:
            raise UserError(f"{name} has no argument {argument!r}{did_you_mean(argument, sorted(accepted))}")
