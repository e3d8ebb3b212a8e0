"""A network run on tensors without data."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cnnbench.errors import UserError, first_line

InputSize = int | Sequence[int] | None


def prepare(model: nn.Module, input_size: InputSize = None, in_chans: int | None = None) -> tuple[nn.Module, Tensor]:
    """Return a copy of a network without data, in evaluation mode, and one image for it.

    Args:
        model: Any network of images; it stays as it is.
        input_size: Side of a square image, (height, width) or (channels, height, width); None: the size in the
            network's `pretrained_cfg`.
        in_chans: Channels of the image; None: those of `input_size`, or else of the first convolution.

    Returns:
        The copy (the network itself where it has no data and is in evaluation mode already), and an image
        (1, channels, height, width), both on the meta device.

    Raises:
        UserError: If the size is no image size.
    """
    channels, height, width = _image_shape(model, input_size, in_chans)
    copy = model if _is_bare(model) else meta_copy(model).eval()
    dtype = next((parameter.dtype for parameter in copy.parameters()), torch.float32)
    return copy, torch.empty(1, channels, height, width, device="meta", dtype=dtype)


def dry_run(model: nn.Module, image: Tensor) -> None:
    """Run what `prepare` returned.

    Raises:
        UserError: If the network cannot run on that image without data.
    """
    try:
        with unfused():
            model(image)
    except Exception as error:  # whatever somebody else's forward raises
        name = type(model).__name__
        shape = "x".join(map(str, image.shape[1:]))
        raise UserError(f"{name} cannot run on an image of {shape} without data: {first_line(error)}") from error


def meta_copy(model: nn.Module) -> nn.Module:
    """Copy a network onto the meta device; no weight is copied on the way."""
    tensors = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        tensors += [value for value in vars(module).values() if isinstance(value, Tensor)]
    return deepcopy(model, {id(tensor): _on_meta(tensor) for tensor in tensors})


@contextmanager
def unfused(gradients: bool = False) -> Iterator[None]:
    """Run attention as the products it is made of, without gradients unless these are asked for."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.set_grad_enabled(gradients), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _is_bare(model: nn.Module) -> bool:
    tensors = (*model.parameters(), *model.buffers())
    return not any(module.training for module in model.modules()) and all(tensor.is_meta for tensor in tensors)


def _on_meta(tensor: Tensor) -> Tensor:
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def _image_shape(model: nn.Module, input_size: InputSize, in_chans: int | None) -> tuple[int, int, int]:
    if input_size is None:
        cfg = getattr(model, "pretrained_cfg", None) or {}
        if "input_size" not in cfg:
            raise UserError(f"{type(model).__name__} does not tell its usual image size: give input_size")
        input_size = tuple(cfg["input_size"])[1:]
    sides = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(sides) == 3:
        in_chans, sides = in_chans or sides[0], sides[1:]
    if in_chans is None:
        convolutions = (m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd))
        in_chans = next((convolution.in_channels for convolution in convolutions), 3)
    shape = (in_chans, *sides)
    if len(shape) != 3 or not all(isinstance(length, int) and length > 0 for length in shape):
        raise UserError(
            f"input_size is {input_size!r}: it must be a side, (height, width) or (channels, height, width)"
        )
    return shape
