"""Two networks made ready to be compared: copied, in float64, with the same random weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnbench.analysis.dry_run import unfused
from cnnbench.compare.align import alignments
from cnnbench.compare.entries import Alignment
from cnnbench.compare.kept import everything_kept
from cnnbench.compare.numbers import TOLERANCE
from cnnbench.compare.outputs import check_shapes, error, paired, parts_of
from cnnbench.compare.seeds import seed_everything
from cnnbench.errors import UserError, first_line

LOUD = 8.0  # times as large are some scales and biases, so that activations are driven into their far pieces
_LOUD_SHARE = 1 / 8


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


def prepare(ours: nn.Module, theirs: nn.Module, images: Tensor, seed: int = 0) -> Prepared:
    """Copy two networks, align them, and give both the same random weights.

    Where their tensors can be aligned in several ways, the first with which the outputs agree is taken.

    Args:
        ours: A network; it is not changed.
        theirs: Another; it is not changed.
        images: (B, C, H, W), float64.
        seed: Of the weights.

    Raises:
        UserError: One of them cannot be copied or run on the images, or they put out tensors of different shapes.
    """
    sides = {"ours": _copied("ours", ours, images), "theirs": _copied("theirs", theirs, images)}
    parts = [_parts(side, network, images) for side, network in sides.items()]
    check_shapes(*parts, len(images))
    networks = tuple(sides.values())
    first = None
    for alignment in alignments(*networks, images):
        prepared = _exchanged(*networks, alignment, seed)
        if alignment.differences or alignment.method == "same keys" or _agree(prepared, images):
            return prepared
        first = first or alignment
    return _exchanged(*networks, first, seed)


def randomise(tensors: Mapping[str, Tensor], seed: int) -> None:
    """Give parameters and floating-point buffers random values, in place, that keep signals at their scale.

    Weights of two and more dimensions are normal with variance 1/fan-in; scales and running variances lie in
    0.5 to 1.5; biases and running means are normal with standard deviation 0.3. One scale and bias in eight is `LOUD`
    times as large as the others: what a ReLU6 does above 6, or a hard sigmoid beyond 3, shows nowhere else. Scales are
    then brought back to a mean square of 1, or else a deep network would saturate.
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
            if tensor.ndim == 1 and len(tensor) and not name.endswith(("running_mean", "running_var")):
                values *= torch.where(_chosen(len(values), generator), LOUD, 1.0)
                values /= 1.0 if name.endswith("bias") else values.square().mean().sqrt()
            tensor.copy_(values)


@contextmanager
def running(side: str, network: nn.Module, images: Tensor) -> Iterator[None]:
    """Tell the user whose network cannot be run.

    Raises:
        UserError: It raised something.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever somebody else's forward raises
        mode = " in training mode" if network.training else ""
        shape = "x".join(map(str, images.shape[1:]))
        raise UserError(
            f"{side} ({type(network).__name__}) cannot run{mode} on images of {shape}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error


def _chosen(count: int, generator: torch.Generator) -> Tensor:
    """Return which of some channels are loud: at least one."""
    chosen = torch.rand(count, generator=generator) < _LOUD_SHARE
    chosen[torch.randint(count, (1,), generator=generator)] = True
    return chosen


def _copied(side: str, network: nn.Module, images: Tensor) -> nn.Module:
    try:
        with torch.no_grad():  # else the parameters of scripted modules would be results of a computation
            copied = deepcopy(network).to(images)
        for parameter, original in zip(copied.parameters(), network.parameters(), strict=True):
            parameter.requires_grad_(original.requires_grad)
        return copied
    except Exception as error:  # whatever somebody else's network cannot bear
        name = f"{side} ({type(network).__name__})"
        raise UserError(f"{name} cannot be copied: {type(error).__name__}: {first_line(error)}") from error


def _parts(side: str, network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return what a network puts out, after a run in each mode."""
    for training in (True, False):
        network.train(training)
        with running(side, network, images), unfused(), everything_kept():
            output = network(images.clone())
    if not (parts := parts_of(output)):
        name = f"{side} ({type(network).__name__})"
        raise UserError(f"{name} returns {type(output).__name__}, in which there is no tensor")
    return parts


def _exchanged(ours: nn.Module, theirs: nn.Module, alignment: Alignment, seed: int) -> Prepared:
    """Randomise theirs' weights and copy them into ours."""
    targets = {entry.target for entry in alignment.entries}
    randomise({key: tensor for key, tensor in theirs.state_dict().items() if key in targets}, seed)
    ours.load_state_dict(alignment.inverse().convert(theirs.state_dict(), ours.state_dict()), strict=True)
    buffers = ({name: buffer.clone() for name, buffer in network.named_buffers()} for network in (ours, theirs))
    return Prepared(ours, theirs, alignment, tuple(buffers))


def _agree(prepared: Prepared, images: Tensor) -> bool:
    outputs = []
    for network in prepared.networks:
        seed_everything(0)
        with unfused():
            outputs.append(parts_of(network.eval()(images.clone())))
    return all(error(*pair) <= TOLERANCE for pair in paired(*outputs))
