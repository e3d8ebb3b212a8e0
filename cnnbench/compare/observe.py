"""What a network does on images: outputs, gradients, buffers; and how far two are apart in them."""

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnbench.analysis.dry_run import unfused
from cnnbench.compare.entries import Alignment
from cnnbench.compare.kept import everything_kept
from cnnbench.compare.outputs import described, error, largest, parts_of
from cnnbench.compare.seeds import seed_everything

_HARDLY = 1e-6


@dataclass(frozen=True)
class Observation:
    """What a network did in one mode.

    Attributes:
        outputs: The tensors that it returned, by their places in what it returned.
        form: What it returned them in, such as "a tuple of one".
        gradients: Of every parameter that has one, and of the images under "".
        buffers: After forward and backward.
        draws: How often it drew random numbers.
    """

    outputs: dict[str, Tensor]
    form: str
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    draws: int


def observe(network: nn.Module, images: Tensor, training: bool, seed: int = 0) -> Observation:
    """Run forward and backward; nothing is dropped, see `everything_kept`.

    Args:
        network: Its buffers are updated in training mode.
        images: (B, C, H, W).
        training: The mode.
        seed: Of the direction among the outputs whose gradient is taken, and of what the network draws.
    """
    network.train(training).zero_grad()
    seed_everything(seed)
    images = images.clone().requires_grad_()
    with unfused(gradients=True), everything_kept() as draws:
        returned = network(images.clone())  # a copy: the network may write to it
        outputs = parts_of(returned)
        drawn = draws.count
        ends = [output for output in outputs.values() if output.requires_grad]
        generator = torch.Generator().manual_seed(seed)
        directions = [torch.randn(end.shape, generator=generator, dtype=end.dtype).to(end.device) for end in ends]
        if ends:
            torch.autograd.backward(ends, directions)
    named = {"": images, **dict(network.named_parameters())}
    gradients = {name: tensor.grad for name, tensor in named.items() if tensor.grad is not None}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    detached = {path: output.detach() for path, output in outputs.items()}
    return Observation(detached, described(returned), gradients, buffers, drawn)


def gradient_errors(ours: Observation, theirs: Observation, alignment: Alignment) -> dict[str, float]:
    """Return every gradient's error by our key, the images' under "".

    An error is relative to the largest gradient of the layer, not of the tensor alone: the gradient of a bias in front
    of a BatchNorm is zero but for rounding, and rounding is as large as the layer's other gradients make it. A layer
    that hardly any gradient reaches, such as one behind a gate that is shut, is judged by the whole network's.
    """
    floor = _HARDLY * max(map(largest, theirs.gradients.values()), default=0.0)
    scales: dict[str, float] = defaultdict(lambda: floor)
    for key, tensor in theirs.gradients.items():
        scales[_layer(key)] = max(scales[_layer(key)], largest(tensor))
    errors = {"": _gradient_error(ours.gradients.get(""), theirs.gradients.get(""), scales[""])}
    for entry in alignment.entries:
        mine, other = ours.gradients.get(entry.source), theirs.gradients.get(entry.target)
        if mine is not None and other is not None:
            mine, other = entry.convert(mine, tuple(other.shape)), entry.counterpart(other)
        found = _gradient_error(mine, other, scales[_layer(entry.target)])
        errors[entry.source] = max(found, errors.get(entry.source, 0.0))
    return errors


def buffer_errors(ours: Observation, theirs: Observation, alignment: Alignment) -> dict[str, float]:
    """Return every buffer's relative error, by our key."""
    return {
        entry.source: error(
            ours.buffers[entry.source].reshape(theirs.buffers[entry.target].shape), theirs.buffers[entry.target]
        )
        for entry in alignment.entries
        if entry.source in ours.buffers and entry.target in theirs.buffers
    }


def _gradient_error(ours: Tensor | None, theirs: Tensor | None, scale: float) -> float:
    if ours is not None and theirs is not None:
        return error(ours, theirs, scale)
    only = theirs if ours is None else ours
    return 0.0 if only is None or largest(only) == 0.0 else math.inf  # what has none must be zero on the other side


def _layer(key: str) -> str:
    return key.rpartition(".")[0]
