"""What two networks do with the same weights on the same images: outputs, gradients, buffers, in float64."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnbench.analysis.dry_run import unfused
from cnnbench.compare.align import Alignment, alignments
from cnnbench.compare.kept import everything_kept
from cnnbench.compare.numbers import TOLERANCE, relative
from cnnbench.compare.sides import tensors_of
from cnnbench.errors import UserError, first_line


@dataclass(frozen=True)
class Prepared:
    """Two networks ready to be compared.

    Attributes:
        ours: A copy of ours in float64, with theirs' random weights as far as they correspond.
        theirs: A copy of theirs in float64, with random weights.
        alignment: Of their tensors.
        buffers: Of both, as they were before any run.
    """

    ours: nn.Module
    theirs: nn.Module
    alignment: Alignment
    buffers: tuple[dict[str, Tensor], dict[str, Tensor]]

    @property
    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Both networks."""
        return self.ours, self.theirs

    def rewind(self) -> None:
        """Undo what runs in training mode did to the buffers."""
        for network, buffers in zip(self.networks, self.buffers, strict=True):
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])


@dataclass(frozen=True)
class Observation:
    """What a network did in one mode.

    Attributes:
        outputs: The tensors that it returned.
        gradients: Of every parameter that has one, and of the images under "".
        buffers: After the forward pass.
        draws: How often it drew random numbers.
    """

    outputs: list[Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    draws: int


def prepare(ours: nn.Module, theirs: nn.Module, images: Tensor, seed: int = 0) -> Prepared:
    """Copy two networks, align them, and give both the same random weights.

    Where their tensors can be aligned in several ways, the first with which the outputs agree is taken.

    Args:
        ours: A network; it is not changed.
        theirs: Another; it is not changed.
        images: (B, C, H, W), float64.
        seed: Of the weights.

    Raises:
        UserError: One of them cannot be run on the images.
    """
    networks = [deepcopy(network).to(images) for network in (ours, theirs)]
    for side, network in zip(("ours", "theirs"), networks, strict=True):
        _check_runs(side, network, images)
    first = None
    for alignment in alignments(*networks, images):
        prepared = _exchanged(*networks, alignment, seed)
        if alignment.differences or alignment.method == "same keys" or _agree(prepared, images):
            return prepared
        first = first or alignment
    return _exchanged(*networks, first, seed)


def _exchanged(ours: nn.Module, theirs: nn.Module, alignment: Alignment, seed: int) -> Prepared:
    """Randomise theirs' weights and copy them into ours."""
    targets = {entry.target for entry in alignment.entries}
    randomise({key: tensor for key, tensor in theirs.state_dict().items() if key in targets}, seed)
    ours.load_state_dict(alignment.inverse().convert(theirs.state_dict(), ours.state_dict()), strict=True)
    buffers = ({name: buffer.clone() for name, buffer in network.named_buffers()} for network in (ours, theirs))
    return Prepared(ours, theirs, alignment, tuple(buffers))


def randomise(tensors: Mapping[str, Tensor], seed: int) -> None:
    """Give parameters and floating-point buffers random values, in place, that keep signals at their scale.

    Weights of two and more dimensions are normal with variance 1/fan-in; scales and running variances lie in
    0.5 to 1.5; biases and running means are normal with standard deviation 0.3.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                continue
            values = torch.empty(tensor.shape, dtype=tensor.dtype)
            if tensor.ndim > 1:
                values.normal_(0.0, tensor[0].numel() ** -0.5, generator=generator)
            elif name.endswith(("bias", "running_mean")):
                values.normal_(0.0, 0.3, generator=generator)
            else:
                values.uniform_(0.5, 1.5, generator=generator)
            tensor.copy_(values)


def observe(network: nn.Module, images: Tensor, training: bool, seed: int = 0) -> Observation:
    """Run forward and backward; nothing is dropped, see `everything_kept`.

    Args:
        network: Its buffers are updated in training mode.
        images: (B, C, H, W).
        training: The mode.
        seed: Of the direction among the outputs whose gradient is taken, and of what the network draws.
    """
    network.train(training).zero_grad()
    torch.manual_seed(seed)
    images = images.clone().requires_grad_()
    with unfused(gradients=True), everything_kept() as draws:
        outputs = tensors_of(network(images))
        generator = torch.Generator().manual_seed(seed)
        directions = [torch.randn(o.shape, generator=generator, dtype=o.dtype).to(o.device) for o in outputs]
        torch.autograd.backward(outputs if training else outputs[:1], directions if training else directions[:1])
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    return Observation([o.detach() for o in outputs], {"": images.grad, **gradients}, buffers, draws.count)


def gradient_errors(ours: Observation, theirs: Observation, alignment: Alignment) -> dict[str, float]:
    """Return every gradient's error by our key, the images' under "".

    An error is relative to the largest gradient of the layer, not of the tensor alone: the gradient of a bias in front
    of a BatchNorm is zero but for rounding, and rounding is as large as the layer's other gradients make it.
    """
    scales: dict[str, float] = {}
    for key, tensor in theirs.gradients.items():
        scales[_layer(key)] = max(scales.get(_layer(key), 0.0), _largest(tensor))
    errors = {"": error(ours.gradients[""], theirs.gradients[""], scales[""])}
    for entry in alignment.entries:
        mine, other = ours.gradients.get(entry.source), theirs.gradients.get(entry.target)
        if mine is not None and other is not None:
            converted = entry.convert(mine, tuple(other.shape))
            errors[entry.source] = error(converted, other, scales[_layer(entry.target)])
        elif mine is not None or other is not None:  # what has none must be zero on the other side
            errors[entry.source] = math.inf if _largest(other if mine is None else mine) else 0.0
    return errors


def buffer_errors(ours: Observation, theirs: Observation, alignment: Alignment) -> dict[str, float]:
    """Return every buffer's relative error, by our key."""
    return {
        entry.source: error(
            ours.buffers[entry.source].reshape(theirs.buffers[entry.target].shape).double(),
            theirs.buffers[entry.target].double(),
        )
        for entry in alignment.entries
        if entry.source in ours.buffers and entry.target in theirs.buffers
    }


def error(ours: Tensor, theirs: Tensor, scale: float | None = None) -> float:
    """Return the largest deviation relative to the largest number of theirs, or to another scale."""
    if ours.shape != theirs.shape or not (ours.isfinite().all() and theirs.isfinite().all()):
        return math.inf
    return relative(_largest(ours - theirs), _largest(theirs) if scale is None else scale)


def _agree(prepared: Prepared, images: Tensor) -> bool:
    results = []
    for network in (prepared.ours, prepared.theirs):
        with unfused():
            results.append(tensors_of(network.eval()(images))[0])
    return error(*results) <= TOLERANCE


def _check_runs(side: str, network: nn.Module, images: Tensor) -> None:
    name = f"{side} ({type(network).__name__})"
    shape = "x".join(map(str, images.shape[1:]))
    was_training = network.training
    try:
        with unfused():
            output = network.eval()(images)
    except Exception as error:  # whatever somebody else's forward raises
        raise UserError(
            f"{name} cannot run on images of {shape}: {type(error).__name__}: {first_line(error)}"
        ) from error
    finally:
        network.train(was_training)
    if not tensors_of(output):
        raise UserError(f"{name} returns {type(output).__name__}, in which there is no tensor")


def _layer(key: str) -> str:
    return key.rpartition(".")[0]


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() else 0.0
