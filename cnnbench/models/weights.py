"""Weights from a file: any network's, as timm, torchvision, torch or a run of ours has written them."""

import logging
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from timm.models import adapt_input_conv, load_state_dict
from torch import Tensor, nn

from cnnbench.errors import UserError

StateDict = Mapping[str, Any]

_RUN_PREFIX = "network."  # of the network in a checkpoint of a training run
_log = logging.getLogger(__name__)


def load_weights(
    network: nn.Module,
    path: str | Path,
    convert: Callable[[StateDict, nn.Module], StateDict] | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Load the weights of a network from a file, without running code that the file may hold.

    The first convolution is adapted to another number of channels, as timm does; a classifier for other
    classes is left as it is, which is logged as a warning. All else must fit.

    Args:
        network: Its `pretrained_cfg` names the first convolution and the classifier.
        path: A `.safetensors` file, or one of `torch.save`: a state dict, or a checkpoint that has one under
            "state_dict", "model" or, averaged, "state_dict_ema". A checkpoint of a training run fits too.
        convert: Called with the state dict and the network; timm's `checkpoint_filter_fn`s have this form.
        class_names: What the classifier is to tell apart; where a run's checkpoint says that its own tells other
            classes apart, or these in another order, it is one for other classes.

    Raises:
        UserError: There is no such file, it holds no weights, or they are of another network.
    """
    weights = _read(Path(path))
    if convert is not None and not _fits(weights, network):
        weights = convert(weights, network)
    cfg = getattr(network, "pretrained_cfg", {})
    weights = dict(weights)
    own = network.state_dict()
    _adapt_input(weights, own, cfg.get("first_conv"))
    trained_for = _class_names(Path(path))
    others = bool(class_names and trained_for) and tuple(class_names) != trained_for
    left_out = _leave_out_other_classifier(weights, own, cfg.get("classifier"), others)
    _check(weights, own, left_out, f"{path} does not fit {name_of(network)}")
    network.load_state_dict({**weights, **{key: own[key] for key in left_out}}, strict=True)
    if left_out:
        _log.warning("%s: its classifier is for other classes, so %s", path, start_anew(left_out))


def start_anew(keys: Sequence[str]) -> str:
    """Return a sentence that layers start anew, given the keys of their weights."""
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in keys))
    return f"{', '.join(layers)} {'starts' if len(layers) == 1 else 'start'} anew"


def name_of(network: nn.Module) -> str:
    """Return the model's name, as the configuration that the network carries has it."""
    return getattr(network, "pretrained_cfg", {}).get("architecture", type(network).__name__).removeprefix("cnnbench_")


def _read(path: Path) -> StateDict:
    if not path.is_file():
        raise UserError(f"there is no file of weights {path}")
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # torch, timm and safetensors raise what their parsers raise
        if re.search(r"Unsupported globals?:|not an allowed global", f"{error} {error.__cause__}"):
            raise UserError(f"{path} holds more than weights, and is not opened: that could run its code") from error
        raise UserError(f"{path} cannot be read as weights: it is damaged, or a file of another kind") from error
    if not isinstance(weights, Mapping) or not any(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path} holds no weights")
    of_run = {key.removeprefix(_RUN_PREFIX): value for key, value in weights.items() if key.startswith(_RUN_PREFIX)}
    return of_run or weights


def _class_names(path: Path) -> tuple[str, ...]:
    """Return what a run's checkpoint calls its classes; of any other file, nothing."""
    if not zipfile.is_zipfile(path):
        return ()
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return tuple(content.get("cnnbench", {}).get("class_names") or ()) if isinstance(content, dict) else ()


def _fits(weights: StateDict, network: nn.Module) -> bool:
    own = network.state_dict()
    return own.keys() == weights.keys() and all(own[key].shape == weights[key].shape for key in own)


def _adapt_input(weights: dict[str, Any], own: StateDict, first_conv: str | tuple[str, ...] | None) -> None:
    for layer in (first_conv,) if isinstance(first_conv, str) else first_conv or ():
        key = f"{layer}.weight"
        if key in weights and key in own and weights[key].ndim == 4:
            weights[key] = adapt_input_conv(own[key].shape[1], weights[key], base_chans=weights[key].shape[1])


def _leave_out_other_classifier(
    weights: dict[str, Any], own: StateDict, names: str | tuple[str, ...] | None, others: bool
) -> list[str]:
    """Remove a classifier for `others`, or with another number of outputs; return the keys of ours that then lack."""
    left_out = []
    for layer in (names,) if isinstance(names, str) else names or ():
        keys = (f"{layer}.weight", f"{layer}.bias")
        if any(key in weights and (others or key not in own or own[key].shape != weights[key].shape) for key in keys):
            for key in keys:
                weights.pop(key, None)
            left_out += [key for key in keys if key in own]
    return left_out


def _check(weights: StateDict, own: StateDict, left_out: list[str], what: str) -> None:
    missing = [key for key in own if key not in weights and key not in left_out]
    surplus = [key for key in weights if key not in own]
    if missing or surplus:
        sides = [f"{kind}: {_some(keys)}" for kind, keys in (("missing", missing), ("surplus", surplus)) if keys]
        raise UserError(f"{what}; {'; '.join(sides)}")
    for key, value in weights.items():
        if value.shape != own[key].shape:
            raise UserError(f"{what}: {key} is {tuple(value.shape)} there and {tuple(own[key].shape)} here")


def _some(keys: list[str], count: int = 3) -> str:
    more = f" and {len(keys) - count} more" if len(keys) > count else ""
    return ", ".join(keys[:count]) + more
