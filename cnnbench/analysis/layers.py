"""A network's layers in the order in which they run, and what each costs and sees."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from cnnbench.analysis.dry_run import InputSize, dry_run, prepare, unfused
from cnnbench.analysis.parameters import count_parameters
from cnnbench.analysis.propagation import FieldMode
from cnnbench.analysis.report import ReceptiveField
from cnnbench.analysis.work import Work, WorkCounter
from cnnbench.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Layer:
    """One row.

    Attributes:
        name: The module's path in the network; "" is the network itself.
        type: Its class.
        output_shape: Without the batch; None: the layer is not called, at least not in evaluation mode.
        parameters: The layer's own, without its children's; 0 where an earlier row has them.
        macs: Multiply-adds, without the children's.
        activations: Numbers that convolutions and matrix products put out, without the children's.
        field: What the outputs see; None: nothing of the image, or the layer is not called.
    """

    name: str
    type: str
    output_shape: tuple[int, ...] | None
    parameters: int
    macs: int
    activations: int
    field: ReceptiveField | None


@dataclass(frozen=True)
class Inspection:
    """A network's layers and totals.

    Attributes:
        input_shape: The image's: channels, height, width.
        output_shape: Of the network's first output.
        layers: Rows in the order of the calls; a layer that is called twice has two.
        parameters: Of all layers.
        macs: Of all layers, for one image.
        activations: Of all layers, for one image.
        gated: Whether fields were followed past gates that see the whole image.
        not_followed: The operators behind which fields are not known.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    activations: int
    gated: bool
    not_followed: tuple[str, ...]


def inspect_layers(model: nn.Module, input_size: InputSize = None, in_chans: int | None = None) -> Inspection:
    """List a network's layers: shapes, parameters, multiply-adds, receptive fields.

    A row is a module without children. One with children follows them where it has parameters or matrix products of its
    own, or where what it returns is not what the last of them returned, as after a concatenation. Multiplicative gates
    that see the whole image, as in squeeze-and-excitation, and the statistics of norms are not counted to what a layer
    sees, as is usual.

    Args:
        model: Any network of images; it stays as it is, and its evaluation mode is what is described.
        input_size: Side of a square image, (height, width) or (channels, height, width); None: the network's usual.
        in_chans: Channels of the image; None: those of the first convolution.

    Returns:
        The rows and the totals.

    Raises:
        UserError: If the network cannot run on such an image.
    """
    copy, image = prepare(model, input_size, in_chans)
    dry_run(copy, image)
    with unfused(), WorkCounter() as work, FieldMode(image) as fields:
        recorder = _Recorder(copy, work, fields)
        output = recorder.run(image)
    return Inspection(
        input_shape=tuple(image.shape[1:]),
        output_shape=_shape(output) or (),
        layers=tuple(recorder.rows + recorder.rest()),
        parameters=count_parameters(model),
        macs=work.done().macs,
        activations=work.done().activations,
        gated=fields.gated,
        not_followed=tuple(fields.not_followed),
    )


def receptive_field(
    model: nn.Module, input_size: InputSize = None, in_chans: int | None = None, layer: str | None = None
) -> ReceptiveField:
    """Return what the outputs of a layer see of the image, branches included.

    Args:
        model: Any network of images; it stays as it is.
        input_size: Side of a square image, (height, width) or (channels, height, width); None: the network's usual.
        in_chans: Channels of the image; None: those of the first convolution.
        layer: The layer's name; None: the last whose outputs lie side by side, that is the last feature map.

    Returns:
        Its size, stride and start.

    Raises:
        UserError: If there is no such layer, or the network cannot run on such an image.
    """
    rows = [row for row in inspect_layers(model, input_size, in_chans).layers if row.field is not None]
    if layer is None:
        rows = [row for row in rows if any(row.field.stride)] or rows
    else:
        names = [row.name for row in rows]
        rows = [row for row in rows if row.name == layer]
        if not rows:
            raise UserError(f"{type(model).__name__} has no layer {layer!r}{did_you_mean(layer, names)}")
    if not rows:
        raise UserError(f"no layer of {type(model).__name__} sees the image")
    return rows[-1].field


class _Recorder:
    """Writes a row whenever a module of a network returns."""

    def __init__(self, model: nn.Module, work: WorkCounter, fields: FieldMode) -> None:
        self.model, self.work, self.fields = model, work, fields
        self.names = {module: name for name, module in model.named_modules()}
        self.rows: list[Layer] = []
        self._counted: set[int] = set()  # parameters that a row has

    def run(self, image: Tensor) -> Any:
        """Run the network, and return what it returns."""
        running: list[list[Work]] = []  # of each module that runs: work before it, and by its children

        def enter(module: nn.Module, args: Any) -> None:
            running.append([self.work.done(), Work()])

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            before, by_children = running.pop()
            work = self.work.done() - before
            if running:
                running[-1][1] += work
            self._add(module, output, work - by_children)

        handles = [module.register_forward_pre_hook(enter) for module in self.names]
        handles += [module.register_forward_hook(leave) for module in self.names]
        try:
            return self.model(image)
        finally:
            for handle in handles:
                handle.remove()

    def rest(self) -> list[Layer]:
        """Return the layers that have parameters but were not called."""
        rows = [self._row(module, None, Work(), None) for module in self.names]
        return [row for row in rows if row.parameters]

    def _add(self, module: nn.Module, output: Any, work: Work) -> None:
        seen = [self.fields.field(leaf) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        field = next((ReceptiveField.of(field) for field in seen if field is not None), None)
        row = self._row(module, _shape(output), work, field)
        last = self.rows[-1] if self.rows else row
        leaf = next(module.children(), None) is None and not isinstance(module, nn.Identity | nn.Sequential)
        merges = (row.output_shape, row.field) != (last.output_shape, last.field) and not isinstance(
            module, nn.Identity
        )
        if leaf or row.parameters or row.macs or merges:
            self.rows.append(row)

    def _row(self, module: nn.Module, shape: Any, work: Work, field: ReceptiveField | None) -> Layer:
        own = [parameter for parameter in module.parameters(recurse=False) if id(parameter) not in self._counted]
        self._counted |= {id(parameter) for parameter in own}
        parameters = sum(parameter.numel() for parameter in own)
        name, kind = self.names[module], type(module).__name__
        return Layer(name, kind, shape, parameters, work.macs, work.activations, field)


def _shape(output: Any) -> tuple[int, ...] | None:
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    return tuple(tensors[0].shape[1:]) if tensors else None
