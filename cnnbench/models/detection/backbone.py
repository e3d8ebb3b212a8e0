"""Backbones: the feature maps of any classifier, ours or timm's, and the pyramid over them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.errors import UserError
from cnnbench.layers.frozen_norm import freeze_batch_norms
from cnnbench.models.detection.fpn import FPN, ConvLevels, MaxPoolLevel
from cnnbench.models.factory import create_model

EXTRA_LEVELS = {"none": lambda channels: None, "pool": lambda channels: MaxPoolLevel(), "convs": ConvLevels}


class Backbone(nn.Module):
    """Feature maps of a classifier, all of one width when a pyramid stands on them.

    Args:
        body: A network built with `features_only=True`.
        fpn: The pyramid; None: the body's maps are returned as they are.

    Attributes:
        out_channels: Channels of each map that `forward` returns, finest first.
        body_levels: How many of these maps there are without those that the pyramid adds.
    """

    def __init__(self, body: nn.Module, fpn: FPN | None = None) -> None:
        super().__init__()
        self.body = body
        self.fpn = fpn
        channels = body.feature_info.channels()
        extra = getattr(fpn, "extra_blocks", None)
        self.body_levels = len(channels)
        levels = self.body_levels + (extra.count if extra is not None else 0)
        self.out_channels: list[int] = channels if fpn is None else [fpn.out_channels] * levels

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the classifier's own maps (B, C_l, H_l, W_l) of images (B, C, H, W), finest first."""
        maps = self.body(images)
        if getattr(self.body, "output_fmt", "NCHW") == "NHWC":
            maps = [x.permute(0, 3, 1, 2).contiguous() for x in maps]
        return maps

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps (B, C_l, H_l, W_l) of images (B, C, H, W), finest first."""
        maps = self.maps(images)
        return maps if self.fpn is None else self.fpn(maps)

    def common_channels(self, detector: str, anchor_levels: int) -> int:
        """Return the width that all maps have, for heads that all maps share.

        Args:
            detector: Whose heads.
            anchor_levels: Maps that there are anchors for.

        Raises:
            UserError: The maps have several widths, or there are more or fewer than anchors.
        """
        if len(set(self.out_channels)) > 1:
            widths = ", ".join(map(str, self.out_channels))
            raise UserError(f"{detector} needs feature maps of one width, not of {widths}: give fpn_channels")
        if len(self.out_channels) != anchor_levels:
            maps = len(self.out_channels)
            raise UserError(f"{detector} has anchor_sizes for {anchor_levels} feature maps, and there are {maps}")
        return self.out_channels[0]


def create_backbone(
    name: str,
    *,
    source: str = "cnnbench",
    pretrained: bool = False,
    in_chans: int = 3,
    strides: Sequence[int] = (4, 8, 16, 32),
    out_indices: Sequence[int] | None = None,
    fpn_channels: int = 256,
    extra_levels: str = "none",
    frozen_norm: bool = False,
    frozen_norm_eps: float | None = None,
    frozen_stages: int = 0,
) -> Backbone:
    """Build a backbone.

    Args:
        name: A classifier's, see `cnnbench.create_model`.
        source: Who wrote it.
        pretrained: Load its published weights.
        in_chans: Channels of the images.
        strides: Which of its feature maps to take: the last of each stride, in pixels.
        out_indices: These instead, by their number.
        fpn_channels: Width of the pyramid; 0: no pyramid, the maps as they are.
        extra_levels: Further levels of the pyramid: "pool" (one), "convs" (two) or "none".
        frozen_norm: Keep BatchNorm's statistics, scale and shift as they are.
        frozen_norm_eps: What frozen norms add to the variance instead of their own.
        frozen_stages: Stages from the first, the stem, that are not trained.

    Raises:
        UserError: There is no such network or map, or the arguments do not fit it.
    """
    options = {"source": source, "in_chans": in_chans, "features_only": True}
    if out_indices is None:
        out_indices = _maps_of_strides(name, options, strides)
    body = create_model(name, pretrained=pretrained, out_indices=tuple(out_indices), **options)
    if frozen_norm:
        freeze_batch_norms(body, frozen_norm_eps)
    _freeze_stages(name, body, frozen_stages)
    if fpn_channels == 0:
        if extra_levels != "none":
            raise UserError(f"extra_levels={extra_levels!r} needs a pyramid: give fpn_channels")
        return Backbone(body)
    if extra_levels not in EXTRA_LEVELS:
        raise UserError(f"extra_levels is one of {', '.join(map(repr, EXTRA_LEVELS))}, not {extra_levels!r}")
    return Backbone(body, FPN(body.feature_info.channels(), fpn_channels, EXTRA_LEVELS[extra_levels](fpn_channels)))


def _maps_of_strides(name: str, options: dict[str, Any], strides: Sequence[int]) -> list[int]:
    """Return the number of the last feature map of each stride."""
    with torch.device("meta"):
        maps = create_model(name, **options).feature_info.info
    last = {info["reduction"]: index for index, info in enumerate(maps)}
    missing = [stride for stride in strides if stride not in last]
    if missing:
        there = ", ".join(f"{index} of stride {info['reduction']}" for index, info in enumerate(maps))
        raise UserError(f"{name} has no feature map of stride {missing[0]}: choose out_indices among {there}")
    return [last[stride] for stride in strides]


def _freeze_stages(name: str, body: nn.Module, count: int) -> None:
    """Let the parameters up to the end of the first `count` feature maps be constants."""
    ends = [info["module"].replace(".", "_") for info in body.feature_info.info]
    children = dict(body.named_children())
    if not 0 <= count <= len(ends):
        raise UserError(f"frozen_stages of {name} is 0 to {len(ends)}, not {count}")
    if count and ends[count - 1] not in children:
        raise UserError(f"{name} cannot be frozen by stages: it is not a row of them")
    for child, module in children.items() if count else ():
        module.requires_grad_(False)
        if child == ends[count - 1]:
            break
