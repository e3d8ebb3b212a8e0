"""Which detectors there are, and the detector behind a name, a source and a backbone."""

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnbench.errors import UserError, did_you_mean
from cnnbench.models.catalogue import Catalogue, built, refuse_unknown
from cnnbench.models.detection.backbone import create_backbone
from cnnbench.models.detection.published import FROZEN, Published, in_todays_form
from cnnbench.models.detection.torchvision_detectors import torchvision_backbone
from cnnbench.models.registry import Paper
from cnnbench.models.weights import load_weights

_log = logging.getLogger(__name__)

BACKBONE = "resnet50"
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
        reference: torchvision's class that it equals over the same feature maps; None: there is none.
        predictors: The layers whose shapes follow from the number of classes, as shell patterns.
        published: What torchvision published of it; None: it is for any backbone.
    """

    name: str
    network: Callable[..., nn.Module]
    paper: Paper
    backbone: Mapping[str, Any] = field(default_factory=dict)
    reference: Callable[..., nn.Module] | None = None
    predictors: tuple[str, ...] = ()
    published: Published | None = None


_detectors = Catalogue[DetectorInfo]("detector")


def register_detector(*infos: DetectorInfo) -> None:
    """Add detectors."""
    _detectors.add(*infos)


def list_detectors() -> list[str]:
    """Return the names that `create_detector` takes."""
    return _detectors.names()


def detector_info(name: str) -> DetectorInfo:
    """Return what is known of a detector.

    Raises:
        UserError: There is none of that name.
    """
    return _detectors.info(name)


def create_detector(
    name: str,
    *,
    source: str = "cnnbench",
    backbone: str | None = None,
    backbone_source: str = "cnnbench",
    num_classes: int | None = None,
    in_chans: int = 3,
    pretrained: bool = False,
    as_published: bool | None = None,
    pretrained_backbone: bool = False,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a detector.

    Args:
        name: One of `list_detectors()`. Those named after a backbone are torchvision's, from end to end.
        source: Who wrote neck and heads: "cnnbench" or "torchvision".
        backbone: The classifier whose feature maps it looks at, see `cnnbench.list_models()`; None: resnet50.
        backbone_source: Who wrote that: "cnnbench" or "timm".
        num_classes: Classes of objects, without the background; None: those of the published weights.
        in_chans: Channels of the images.
        pretrained: Load the published weights.
        as_published: Freeze BatchNorm and the first two stages, as they were for the published weights; None: where
            those are loaded.
        pretrained_backbone: Load the classifier's published weights.
        weights: Load these instead: a file of weights, or a checkpoint of a run. Anchors that were given are kept where
            the file has others, as a number of classes is, which is logged as a warning.
        class_names: Names of the classes, for `weights`: predictors that a run trained for others start anew.
        kwargs: Arguments of the detector and of `create_backbone`; None stands for the default.

    Returns:
        The detector, in training mode; see `Detector.forward`.

    Raises:
        UserError: A name, a source or an argument is wrong, or there are no weights to load.
    """
    info = detector_info(name)
    num_classes = _classes(info, num_classes)
    _refuse_wrong(info, source, backbone, pretrained, as_published, weights)
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    refuse_unknown(name, info.network, kwargs, besides=BACKBONE_ARGUMENTS, withheld=("backbone", "num_classes"))
    given = {key: kwargs.pop(key) for key in BACKBONE_ARGUMENTS & kwargs.keys()}
    frozen = pretrained if as_published is None else as_published
    options = {**info.backbone, **(FROZEN if frozen else {}), **given}
    if source == "torchvision" and info.published is not None:
        _refuse_for_torchvision(name, in_chans, pretrained_backbone, given)
        options.pop("strides", None)  # those of its pyramid
        maps = torchvision_backbone(info.published.backbone, **options)
    else:
        beneath = backbone or backbone_of(name)
        options |= {"source": backbone_source, "pretrained": pretrained_backbone, "in_chans": in_chans}
        maps = create_backbone(beneath, **options)
    network = _built(info, source, maps, num_classes, kwargs)
    if pretrained or weights is not None:
        _load(network, info.published.file() if pretrained else weights, class_names, kwargs)
    return network


def _load(network: nn.Module, path: str | Path, class_names: Sequence[str] | None, given: Iterable[str]) -> None:
    """Load weights; buffers that are arguments, such as anchors, stay what was given."""
    buffers = {name: buffer for name, buffer in network.named_buffers() if name in given}
    kept = {name: buffer.clone() for name, buffer in buffers.items() if not buffer.isnan().any()}  # NaN: not known yet
    load_weights(network, path, in_todays_form, class_names)
    for name, own in kept.items():
        buffer = network.get_buffer(name)
        if not torch.equal(buffer, own):
            theirs, ours = (value.flatten(0, -2).tolist() for value in (buffer, own))
            _log.warning("%s: its %s %s give way to those asked for, %s", path, name, theirs, ours)
            buffer.copy_(own)


def backbone_of(name: str) -> str:
    """Return the classifier that a detector stands on unless another is asked for.

    Raises:
        UserError: There is no such detector.
    """
    info = detector_info(name)
    return info.published.backbone if info.published else BACKBONE


def _classes(info: DetectorInfo, num_classes: int | None) -> int:
    if num_classes is None and info.published is not None:
        return info.published.num_classes
    if not isinstance(num_classes, int) or num_classes < 1:
        raise UserError(f"{info.name} needs num_classes to be a whole number of at least 1, not {num_classes!r}")
    return num_classes


def _refuse_wrong(
    info: DetectorInfo, source: str, backbone: str | None, pretrained: bool, as_published: bool | None, weights: Any
) -> None:
    if source not in SOURCES:
        raise UserError(f"unknown source {source!r} of a detector{did_you_mean(source, SOURCES)}")
    if source == "torchvision" and info.reference is None:
        raise UserError(f"torchvision has no {info.name}: leave source out")
    if info.published is not None and backbone is not None and backbone.partition(".")[0] != info.published.backbone:
        raise UserError(f"the backbone of {info.name} is {info.published.backbone}, not {backbone}")
    if (pretrained or as_published) and info.published is None:
        raise UserError(f"{info.name} has no published weights; pretrained_backbone loads those of its backbone")
    if pretrained and weights is not None:
        raise UserError(f"{info.name}: weights and pretrained exclude each other")


def _refuse_for_torchvision(name: str, in_chans: int, pretrained_backbone: bool, given: Mapping[str, Any]) -> None:
    """Refuse what torchvision's own backbone cannot be told."""
    others = sorted(given.keys() - FROZEN.keys())
    if in_chans != 3 or pretrained_backbone or others:
        what = others[0] if others else "pretrained_backbone" if pretrained_backbone else f"in_chans={in_chans}"
        raise UserError(f"torchvision's {name} does not take {what}")


def _built(info: DetectorInfo, source: str, maps: nn.Module, num_classes: int, kwargs: Mapping[str, Any]) -> nn.Module:
    build = info.network if source == "cnnbench" else info.reference
    network = built(info.name, build, maps, num_classes, **kwargs)
    predictors = tuple(
        layer for layer, _ in network.named_modules() if any(fnmatch(layer, pattern) for pattern in info.predictors)
    )
    network.pretrained_cfg = {"architecture": info.name, "classifier": predictors}
    return network
