"""Which segmenters there are, and the segmenter behind a name and a backbone."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from cnnbench.errors import UserError
from cnnbench.models.catalogue import Catalogue, built, refuse_unknown
from cnnbench.models.registry import Paper
from cnnbench.models.segmentation.segmenter import Segmenter
from cnnbench.models.weights import load_weights, start_anew

BACKBONE = "resnet18"
SOURCES = ("cnnbench",)
_AUX_HEADS = "aux_heads."  # of coarser maps, see `Segmenter`
_OF_BACKBONE = ("backbone", "backbone_source", "pretrained_backbone")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmenterInfo:
    """What is known of a segmenter.

    Attributes:
        name: What it is asked for by.
        network: What builds it, of a number of classes and of channels.
        paper: Its source.
        defaults: Arguments of `network` that make this variant.
        needs_backbone: Whether it stands on a classifier.
    """

    name: str
    network: Callable[..., Segmenter]
    paper: Paper
    defaults: Mapping[str, Any] = field(default_factory=dict)
    needs_backbone: bool = False


_segmenters = Catalogue[SegmenterInfo]("segmenter")


def register_segmenter(*infos: SegmenterInfo) -> None:
    """Add segmenters."""
    _segmenters.add(*infos)


def list_segmenters() -> list[str]:
    """Return the names that `create_segmenter` takes."""
    return _segmenters.names()


def segmenter_info(name: str) -> SegmenterInfo:
    """Return what is known of a segmenter.

    Raises:
        UserError: There is none of that name.
    """
    return _segmenters.info(name)


def create_segmenter(
    name: str,
    *,
    source: str = "cnnbench",
    backbone: str | None = None,
    backbone_source: str = "cnnbench",
    num_classes: int,
    in_chans: int = 3,
    pretrained_backbone: bool = False,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    **kwargs: Any,
) -> Segmenter:
    """Build a segmenter.

    Args:
        name: One of `list_segmenters()`.
        source: Who wrote it: "cnnbench".
        backbone: The classifier that `unet_encoder` stands on, see `cnnbench.list_models()`; None: resnet18.
        backbone_source: Who wrote that: "cnnbench" or "timm".
        num_classes: Classes, the background among them.
        in_chans: Channels of the images.
        pretrained_backbone: Load the classifier's published weights.
        weights: Load these instead: a file of weights, or a checkpoint of a run.
        class_names: Names of the classes, for `weights`: a head that a run trained for others starts anew, and so do
            those of its coarser maps.
        kwargs: Arguments of the segmenter; None stands for the default.

    Returns:
        The segmenter, in training mode; see `Segmenter.forward`.

    Raises:
        UserError: A name, a source or an argument is wrong, or there are no weights to load.
    """
    info = segmenter_info(name)
    if source not in SOURCES:
        raise UserError(f"unknown source {source!r} of a segmenter: it is 'cnnbench'; backbone_source may be 'timm'")
    for argument, value in (("num_classes", num_classes), ("in_chans", in_chans)):
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{name} needs {argument} to be a whole number of at least 1, not {value!r}")
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    refuse_unknown(name, info.network, kwargs, withheld=("num_classes", "in_chans", *_OF_BACKBONE))
    if info.needs_backbone:
        of_backbone = (backbone or BACKBONE, backbone_source, pretrained_backbone and weights is None)
        kwargs |= dict(zip(_OF_BACKBONE, of_backbone, strict=True))
    elif backbone is not None or pretrained_backbone:
        raise UserError(f"{name} has no backbone; unet_encoder stands on one")
    network = built(name, info.network, num_classes, in_chans, **{**info.defaults, **kwargs})
    first_conv = next(layer for layer, module in network.named_modules() if isinstance(module, nn.Conv2d))
    heads = ("head", *(f"{_AUX_HEADS}{place}" for place in range(len(network.aux_heads))))
    network.pretrained_cfg = {"architecture": name, "first_conv": first_conv, "classifier": heads}
    if weights is not None:
        load_weights(network, weights, _with_own_aux_heads, class_names)
    return network


def _with_own_aux_heads(weights: Mapping[str, Any], network: Segmenter) -> dict[str, Any]:
    """Return weights with the heads of those coarser maps that the network has; of which they have none, it is new."""
    own = {key: value for key, value in network.state_dict().items() if key.startswith(_AUX_HEADS)}
    there = {key.rpartition(".")[0] for key in weights}
    new = {key: value for key, value in own.items() if key.rpartition(".")[0] not in there}
    if new:
        _log.warning("no weights for the heads of coarser maps: %s", start_anew([*new]))
    kept = {key: value for key, value in weights.items() if key in own or not key.startswith(_AUX_HEADS)}
    return {**kept, **new}
