"""One network, several tasks: a classifier's features under heads for classes, boxes and embeddings.

R. Caruana, "Multitask Learning", Machine Learning 28, 1997: what the tasks share is learned once (hard parameter
sharing); what each has for itself is small.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cnnbench.errors import UserError, did_you_mean
from cnnbench.models.catalogue import built
from cnnbench.models.factory import create_model
from cnnbench.models.multi_task_heads import ARGUMENTS, HEADS, Uncertainty
from cnnbench.models.weights import load_weights

SOURCES = ("cnnbench", "timm")
_HEAD = "heads."
_BACKBONE = "backbone."
_UNCERTAINTY = "uncertainty."
_log = logging.getLogger(__name__)


class MultiTaskNetwork(nn.Module):
    """Heads over the features of one backbone.

    Args:
        backbone: By timm's contract, with `forward_features` and `forward_head`, and without a classifier.
        heads: By their names, each called with the feature map and the pooled features.

    Attributes:
        uncertainty: How uncertain each head's task is, in the order of `heads`; None: the heads are weighed by hand.
        feature_info: The backbone's, by the names that its modules have here.
    """

    def __init__(self, backbone: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.uncertainty: Uncertainty | None = None
        self.is_backbone_frozen = False
        infos = getattr(backbone, "feature_info", None) or ()
        self.feature_info = [{**info, "module": _BACKBONE + info["module"]} for info in infos]

    def get_classifier(self) -> list[nn.Module]:
        """Return what is no part of the backbone: the heads, and what weighs them."""
        return [module for module in (self.heads, self.uncertainty) if module is not None]

    def freeze(self, backbone: bool, heads: Sequence[str]) -> None:
        """Let what is not trained be constants; a frozen backbone's BatchNorm keeps its statistics, too.

        Args:
            backbone: Whether it is frozen.
            heads: The frozen ones.
        """
        self.is_backbone_frozen = backbone
        self.backbone.requires_grad_(not backbone)
        for name, head in self.heads.items():
            head.requires_grad_(name not in heads)
        self.train(self.training)

    def train(self, mode: bool = True) -> "MultiTaskNetwork":
        """Set the mode of all but a frozen backbone, which evaluates."""
        super().train(mode)
        if self.is_backbone_frozen:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor, heads: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return what the heads say of images (B, C, H, W).

        Args:
            images: Normalised.
            heads: Those that are asked; None: all.

        Returns:
            By the head's name: `classification` logits (B, num_classes), `box` (B, 4), x1, y1, x2, y2 as parts of the
            image's width and height, `embedding` (B, embedding_dim) of length 1. And `log_variances` (heads,), in
            training, where there are some.
        """
        features = self.backbone.forward_features(images)
        pooled = self.backbone.forward_head(features, pre_logits=True)
        feature_map = self._as_map(features, *images.shape[-2:])
        outputs = {name: self.heads[name](feature_map, pooled) for name in heads or self.heads}
        if self.training and self.uncertainty is not None:
            outputs["log_variances"] = self.uncertainty()
        return outputs

    def _as_map(self, features: Tensor, height: int, width: int) -> Tensor:
        """Return features as (B, channels, h, w), which a transformer has as a row of tokens, after those of no place.

        Args:
            features: (B, channels, h, w), with the channels last where the backbone says so, or (B, tokens, channels).
            height: Of the images.
            width: Of the images.
        """
        if features.ndim == 4:
            is_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
            return features.permute(0, 3, 1, 2) if is_last else features
        tokens = features[:, getattr(self.backbone, "num_prefix_tokens", 0) :]
        rows = round(math.sqrt(tokens.shape[1] * height / width))
        return tokens.transpose(1, 2).unflatten(2, (rows, -1))


def create_multi_task(
    name: str,
    *,
    heads: Sequence[str],
    source: str = "cnnbench",
    num_classes: int,
    in_chans: int = 3,
    pretrained: bool = False,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    learns_weights: bool = False,
    **kwargs: Any,
) -> MultiTaskNetwork:
    """Build a network of several tasks.

    Args:
        name: Of the classifier that is the backbone, see `cnnbench.list_models()`.
        heads: Names of `HEADS`, once each.
        source: Who wrote the backbone: "cnnbench" or "timm".
        num_classes: Classes of the classification head.
        in_chans: Channels of the images.
        pretrained: Load the backbone's published weights.
        weights: Load these instead, of a network of several tasks or of the classifier alone; heads that the file does
            not have start anew, and so does how uncertain each is.
        class_names: Names of the classes, for `weights`: a classification head for others starts anew.
        learns_weights: Whether it has a parameter a head that says how uncertain the head's task is.
        kwargs: `embedding_dim` (128), `box_channels` (32), `box_grid` (4), and arguments of the classifier; None stands
            for the default.

    Raises:
        UserError: A name, a source or an argument is wrong, or there are no weights to load.
    """
    check_heads(heads)
    if source not in SOURCES:
        raise UserError(f"unknown source {source!r} of a backbone{did_you_mean(source, SOURCES)}")
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    of_head: dict[str, dict[str, Any]] = {head: {} for head in HEADS} | {"classification": {"num_classes": num_classes}}
    for argument in ARGUMENTS.keys() & kwargs.keys():
        value = kwargs.pop(argument)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{argument} is {value!r}, but must be a whole number of at least 1")
        if ARGUMENTS[argument] not in heads:
            raise UserError(f"{argument} is for the {ARGUMENTS[argument]} head, but the heads are {', '.join(heads)}")
        of_head[ARGUMENTS[argument]][argument] = value
    backbone = create_model(name, source=source, pretrained=pretrained, num_classes=0, in_chans=in_chans, **kwargs)
    if not hasattr(backbone, "forward_features"):
        raise UserError(f"{source}'s {name} does not tell its features (forward_features): source 'cnnbench' does")
    widths = (backbone.num_features, backbone.head_hidden_size)
    made = {head: built(f"the {head} head", HEADS[head], *widths, **of_head[head]) for head in heads}
    network = MultiTaskNetwork(backbone, made)
    network.pretrained_cfg = _configuration(f"{name} with the heads {', '.join(heads)}", backbone)
    if weights is not None:
        load_weights(network, weights, _with_own_heads, class_names)
    if learns_weights:
        network.uncertainty = Uncertainty(len(heads))  # never a file's, which belongs to the weighting of its own run
    return network


def _configuration(name: str, backbone: nn.Module) -> dict[str, Any]:
    """Return what the backbone says of itself, with the layers called as they are here."""
    own = dict(getattr(backbone, "pretrained_cfg", None) or {})
    first = tuple(_BACKBONE + layer for layer in _layers(own.get("first_conv")))
    return own | {"architecture": name, "first_conv": first, "classifier": "heads.classification"}


def _layers(named: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the layers that timm names: one, several, or none."""
    return (named,) if isinstance(named, str) else tuple(named or ())


def check_heads(heads: Sequence[str]) -> None:
    """Refuse heads that do not exist, or none.

    Raises:
        UserError: Naming them.
    """
    for head in heads:
        if head not in HEADS:
            raise UserError(f"unknown head {head!r}{did_you_mean(head, HEADS)}")
    if not heads or len(set(heads)) < len(heads):
        raise UserError(f"heads are {list(heads)}: name at least one of {', '.join(HEADS)}, and each once")


def _with_own_heads(weights: Mapping[str, Any], network: MultiTaskNetwork) -> dict[str, Any]:
    """Return weights of a classifier, or of a network with other heads, with the heads that the network has."""
    own = network.state_dict()
    if not any(key.startswith(_BACKBONE) for key in weights):
        weights = _as_backbone(weights, network.backbone)
    there = {_head_of(key) for key in weights}
    new = {key: value for key, value in own.items() if _head_of(key) and _head_of(key) not in there}
    if new:
        _log.warning("no weights for the heads %s: they start anew", ", ".join(sorted(set(map(_head_of, new)))))
    kept = {key: value for key, value in weights.items() if not _head_of(key) or _head_of(key) in network.heads}
    return new | {key: value for key, value in kept.items() if not key.startswith(_UNCERTAINTY)}


def _as_backbone(weights: Mapping[str, Any], backbone: nn.Module) -> dict[str, Any]:
    """Return weights of a classifier as those of the backbone, which has none of its classifier."""
    classifier = _layers((getattr(backbone, "pretrained_cfg", None) or {}).get("classifier"))
    without = {f"{layer}.{part}" for layer in classifier for part in ("weight", "bias")}
    return {_BACKBONE + key: value for key, value in weights.items() if key not in without}


def _head_of(key: str) -> str:
    """Return the name of the head that a parameter belongs to, or nothing."""
    return key.split(".")[1] if key.startswith(_HEAD) else ""
