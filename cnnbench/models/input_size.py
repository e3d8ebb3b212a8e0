"""Whether images are large enough for a network, found without computing anything."""

import inspect

import torch
from timm.models import get_model_input_config
from torch import nn
from torch.func import functional_call

from cnnbench.errors import UserError

LARGEST = 1024


def check_input_size(network: nn.Module, in_chans: int, image_size: tuple[int, int]) -> None:
    """Refuse images that a network cannot take because of their size.

    The network is run in its present mode on tensors without data, which costs milliseconds and changes
    nothing. A failure that no image size would mend is left to the first real step.

    Args:
        network: Any network of images, of this package, timm or torchvision.
        in_chans: Channels of the images.
        image_size: Height and width.

    Raises:
        UserError: If the images are too small, or the network takes another size only.
    """
    if _runs(network, in_chans, image_size):
        return
    cfg = getattr(network, "pretrained_cfg", None) or {}
    name = (cfg.get("architecture") or type(network).__name__).removeprefix("cnnbench_")
    given = "x".join(map(str, image_size))
    taker = getattr(network, "backbone", network)  # what images go to first
    config = get_model_input_config(taker)
    own = config["input_size"][1:]
    if config["fixed_input_size"] and _runs(network, in_chans, own):
        takes_another = "img_size" in inspect.signature(type(taker)).parameters
        hint = f"; img_size sets another, model_args {{img_size: {image_size[0]}}}" if takes_another else ""
        raise UserError(f"{name} takes images of {'x'.join(map(str, own))} pixels, not {given}{hint}")
    low = min(image_size)
    high = next((size for size in _candidates(low) if _runs(network, in_chans, _at_least(image_size, size))), None)
    if high is not None:
        least = _smallest(network, in_chans, image_size, low, high)
        raise UserError(f"images of {given} pixels are too small for {name}: each side needs at least {least} pixels")


def _runs(network: nn.Module, in_chans: int, image_size: tuple[int, int]) -> bool:
    weights = {name: tensor.to("meta") for name, tensor in _tensors(network)}
    images = torch.empty(2, in_chans, *image_size, device="meta", dtype=_dtype(network))
    try:
        with torch.no_grad():
            functional_call(network, weights, (images,))
    except (RuntimeError, ValueError, AssertionError, NotImplementedError):
        return False
    return True


def _tensors(network: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*network.named_parameters(), *network.named_buffers()]


def _dtype(network: nn.Module) -> torch.dtype:
    return next((parameter.dtype for parameter in network.parameters()), torch.float32)


def _candidates(low: int) -> list[int]:
    return [size for size in (2**power for power in range(LARGEST.bit_length())) if size > low]


def _at_least(image_size: tuple[int, int], side: int) -> tuple[int, int]:
    return max(image_size[0], side), max(image_size[1], side)


def _smallest(network: nn.Module, in_chans: int, image_size: tuple[int, int], low: int, high: int) -> int:
    """Return the smallest side that works, between one that does not (`low`) and one that does (`high`)."""
    while high - low > 1:
        middle = (low + high) // 2
        if _runs(network, in_chans, _at_least(image_size, middle)):
            high = middle
        else:
            low = middle
    return high
