"""One run of a network, operation by operation: what was computed from what, by which module, with which parameters.

The operations are torch's own (aten), so that it does not matter how a network is written: modules or functions, views,
in-place or not.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary

from cnnbench.analysis.dry_run import unfused
from cnnbench.compare.kept import keeping
from cnnbench.compare.numbers import Fingerprint, Sample
from cnnbench.compare.operations import DRAWS, ELEMENTWISE, TURNING, name_of
from cnnbench.compare.outputs import parts_of
from cnnbench.compare.steps import IMAGE, Draw, Op, Trace, Use

_SLOT = object()


def trace(network: nn.Module, images: Tensor, numbers: bool = False, keep: bool = False) -> Trace:
    """Run a network in its present mode, without gradients, and return what it did.

    Args:
        network: Any; its buffers are updated in training mode, as ever.
        images: What it is called with.
        numbers: Keep samples and fingerprints of what was computed.
        keep: Drop nothing, see `everything_kept`.
    """
    recorder = _Recorder(network, images, numbers, keep)
    with unfused(), _module_paths(network, recorder), recorder:
        recorder.run.results = list(parts_of(network(recorder.images)).values())
    recorder.run.outputs = [recorder.values.get(tensor, -1) for tensor in recorder.run.results]
    return recorder.run


class _Recorder(TorchDispatchMode):
    def __init__(self, network: nn.Module, images: Tensor, numbers: bool, keep: bool) -> None:
        super().__init__()
        self.numbers = numbers
        self.keep = keep
        self.batch = len(images)
        self.path = ""
        self.run = Trace(modules=frozenset(name for name, _ in network.named_modules()))
        self.values = WeakIdKeyDictionary()  # tensor that depends on the image -> value
        self.derived = WeakIdKeyDictionary()  # tensor made of parameters alone -> Use
        self.still = WeakIdKeyDictionary()  # any other tensor: it may be written to later
        self.state = WeakIdKeyDictionary()  # entries of the state dict
        self.count = IMAGE
        for key, tensor in network.state_dict(keep_vars=True).items():
            if isinstance(tensor, Tensor) and tensor not in self.state:
                self.state[tensor] = key
                self.derived[tensor] = Use((key,), tuple(tensor.shape))
        self.images = images.clone()  # the network may write to it
        self._new_value(self.images)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        given = _by_name(func, args, kwargs)
        inputs = _tensors(given)
        flows = [(name, tensor) for name, tensor in inputs if tensor in self.values]
        op = self._op(func, args, kwargs, given, flows, inputs) if flows else None
        output = keeping(func, args, kwargs) if self.keep else func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if op is None:
            self._derive(func, inputs, made)
        else:
            self._record(op, made, self._written(func, given))
        if name_of(func) in DRAWS and made:
            rate = next((given[name] for name in ("p", "dropout_p") if isinstance(given.get(name), float)), None)
            self.run.draws.append(Draw(self.path, name_of(func), tuple(made[0].shape), rate))
        return output

    def note_idle(self, args: tuple, output: Any) -> None:
        """Note the running module if it passed on what it was given."""
        if args and output is args[0] and isinstance(output, Tensor) and output in self.values:
            self.run.idle.append((self.path, self.values[output]))

    def _op(self, func: Any, args: tuple, kwargs: dict, given: dict, flows: list, inputs: list) -> Op:
        """Return the operation, its outputs still to come."""
        name = name_of(func)
        settings = {key: value for key, value in given.items() if not _holds_tensors(value)}
        uses = {key: self.derived[t] for key, t in inputs if t in self.derived and t not in self.values}
        by_number = all(tensor in self.values or tensor.numel() == 1 for _, tensor in inputs) and not uses
        again = self._replay(func, args, kwargs) if self.numbers and by_number and name in ELEMENTWISE else None
        places = [(key, self.values[tensor]) for key, tensor in flows]
        op = Op(len(self.run.ops), name, self.path, settings, places, uses, [], (), again)
        if self.numbers and uses:
            op.taken = Sample.of(flows[0][1], self.run.fingerprints[places[0][1]], name, self.batch)
        return op

    def _replay(self, func: Any, args: tuple, kwargs: dict) -> Callable[..., Any]:
        """Return an operation as a function of the tensors in it that depend on the image; it keeps none of them."""
        leaves, structure = tree_flatten((args, kwargs))
        leaves = [_SLOT if isinstance(leaf, Tensor) and leaf in self.values else leaf for leaf in leaves]

        def again(*tensors: Tensor) -> Any:
            given = iter(tensors)
            filled = tree_unflatten([next(given) if leaf is _SLOT else leaf for leaf in leaves], structure)
            return func(*filled[0], **filled[1])

        return again

    def _record(self, op: Op, made: list[Tensor], written: list[Tensor]) -> None:
        """Note what an operation put out, and what it changed for whoever looks at the same memory."""
        tensors = _unique([*made, *written])
        op.outputs = [self._new_value(tensor) for tensor in (*tensors, *self._onlookers(tensors, written))]
        op.shape = tuple(made[0].shape) if made else ()
        if self.numbers and op.uses and made:
            op.given = Sample.of(made[0], self.run.fingerprints[op.outputs[0]], op.name, self.batch)
        self.run.ops.append(op)
        self.run.maker |= dict.fromkeys(op.outputs, op)

    def _new_value(self, tensor: Tensor) -> int:
        value = self.count
        self.count += 1
        self.values[tensor] = value
        self.run.shapes[value] = tuple(tensor.shape)
        if self.numbers and tensor.is_floating_point():
            self.run.fingerprints[value] = Fingerprint.of(tensor)
        return value

    def _onlookers(self, tensors: list[Tensor], written: list[Tensor]) -> list[Tensor]:
        """Return the other tensors in whose memory an operation wrote."""
        if not written:
            return []
        memory = {tensor.untyped_storage()._cdata for tensor in written}
        ours = {id(tensor) for tensor in tensors}
        others = _unique([*self.values, *self.derived, *self.still])
        return [t for t in others if id(t) not in ours and t not in self.state and _memory(t) in memory]

    def _written(self, func: Any, given: dict[str, Any]) -> list[Tensor]:
        """Return the tensors that an operation changes, the buffers of norms apart."""
        names = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        leaves = [leaf for name in names for leaf in tree_leaves(given[name]) if isinstance(leaf, Tensor)]
        return [leaf for leaf in leaves if leaf not in self.state]

    def _derive(self, func: Any, inputs: list[tuple[str, Tensor]], made: list[Tensor]) -> None:
        """Note what is made of parameters alone, or of nothing that is known."""
        uses = [self.derived[tensor] for _, tensor in inputs if tensor in self.derived]
        keys = tuple(dict.fromkeys(key for use in uses for key in use.keys))
        for tensor in made:
            if not uses:
                self.still[tensor] = True
            elif tensor not in self.derived:
                turned = uses[0].turned != (name_of(func) in TURNING)
                self.derived[tensor] = Use(keys, uses[0].shape, turned)


def _by_name(func: Any, args: tuple, kwargs: dict) -> dict[str, Any]:
    names = [argument.name for argument in func._schema.arguments]
    given = {argument.name: argument.default_value for argument in func._schema.arguments}
    return given | dict(zip(names, args, strict=False)) | kwargs


def _tensors(given: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """Return the tensors that an operation takes, those of a list with their places: "tensors.0"."""
    found = []
    for name, value in given.items():
        leaves = tree_leaves(value)
        for place, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor):
                found.append((f"{name}.{place}" if isinstance(value, (list, tuple)) else name, leaf))
    return found


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in tree_leaves(value))


def _unique(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list({id(tensor): tensor for tensor in tensors}.values())


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextmanager
def _module_paths(network: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Keep in the recorder's `path` the name of the module that is running, its own hooks included."""
    names = {id(module): name for name, module in network.named_modules()}
    original = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        before = recorder.path
        recorder.path = names.get(id(module), before)
        try:
            output = original(module, *args, **kwargs)
            recorder.note_idle(args, output)
            return output
        finally:
            recorder.path = before

    nn.Module.__call__ = call
    try:
        yield
    finally:
        nn.Module.__call__ = original
