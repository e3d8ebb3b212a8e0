"""Detectors that torchvision published: their weights, in the form of today's networks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import nn

from cnnbench.errors import UserError

FROZEN = {"frozen_norm": True, "frozen_norm_eps": 0.0, "frozen_stages": 2}  # as the weights were trained
_HALVED = re.compile(r"^(head\.(?:classification|regression)_head\.conv)\.(\d)\.(weight|bias)$")
_WRAPPED = (
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"^(rpn\.head\.conv)\.(weight|bias)$"), r"\1.0.0.\2"),
)


@dataclass(frozen=True)
class Published:
    """Weights, trained on COCO.

    Attributes:
        url: Of the file, whose name ends with the first digits of its SHA-256.
        backbone: The classifier beneath.
        num_classes: Labels that the weights tell apart.
    """

    url: str
    backbone: str
    num_classes: int

    def file(self) -> Path:
        """Return where the weights are, after downloading them at the first time.

        Raises:
            UserError: They cannot be downloaded.
        """
        path = Path(torch.hub.get_dir(), "checkpoints", self.url.rpartition("/")[2])
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(self.url, str(path), path.stem.rpartition("-")[2])
            except (URLError, OSError, RuntimeError) as error:
                raise UserError(f"{self.url} could not be downloaded: {error}") from error
        return path


def in_todays_form(weights: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
    """Return the weights of a detector under the names that torchvision has given its layers since 2022.

    Args:
        weights: A state dict of any age.
        network: What it is for; counters of batches that its norms lack are left out.
    """
    own = network.state_dict()
    renamed = {_renamed(key): value for key, value in weights.items()}
    return {key: value for key, value in renamed.items() if key in own or not key.endswith("num_batches_tracked")}


def _renamed(key: str) -> str:
    if halved := _HALVED.match(key):  # a convolution and its ReLU were two layers of a row
        return f"{halved[1]}.{int(halved[2]) // 2}.0.{halved[3]}"
    for pattern, form in _WRAPPED:
        key = pattern.sub(form, key)
    return key
