"""One run of a network, operation by operation: what was computed from what, by which module, with which parameters.

The operations are torch's own (aten), so that it does not matter how a network is written: modules or functions, views,
in-place or not.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from cnnbench.analysis.dry_run import unfused
from cnnbench.compare.numbers import Fingerprint, Sample
from cnnbench.compare.sides import tensors_of

# One name for what torch has several operators for; what is not listed keeps its own, less a trailing underscore.
NAMES = {
    **dict.fromkeys(("_convolution", "mkldnn_convolution", "cudnn_convolution"), "convolution"),
    **dict.fromkeys(("addmm", "mm", "bmm", "baddbmm", "matmul", "mv", "addmv", "_addmm_activation"), "linear"),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"), "batch_norm"),
    **dict.fromkeys(("_native_batch_norm_legit_no_training", "_batch_norm_with_update"), "batch_norm"),
    **dict.fromkeys(("_batch_norm_no_update", "_native_batch_norm_legit_functional"), "batch_norm"),
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "native_dropout": "dropout",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "max_pool2d_with_indices": "max_pool2d",
    "_unsafe_view": "view",
    "reshape": "view",
}
# Operations that put numbers elsewhere, or nowhere, and change none.
STRUCTURAL = frozenset(
    {
        *(
            "view",
            "permute",
            "transpose",
            "t",
            "squeeze",
            "unsqueeze",
            "expand",
            "flatten",
            "unflatten",
            "_reshape_alias",
        ),
        *("slice", "select", "split", "split_with_sizes", "chunk", "unbind", "cat", "stack", "repeat", "as_strided"),
        *("clone", "detach", "alias", "contiguous", "_to_copy", "copy", "lift_fresh", "set"),
    }
)
_TURNING = frozenset(("t", "transpose", "permute"))


@dataclass(frozen=True)
class Use:
    """A parameter, or what was made of parameters alone, where an operation takes it in.

    Attributes:
        keys: Entries of the state dict that it was made of.
        shape: Of the (first) entry.
        turned: Whether its dimensions were swapped on the way.
    """

    keys: tuple[str, ...]
    shape: tuple[int, ...]
    turned: bool = False


@dataclass
class Op:
    """One operation that depends on the image.

    Attributes:
        index: Its place in the order of execution.
        name: See `NAMES`.
        module: Path of the module in whose call it ran.
        settings: What it was given beside tensors, by its parameters' names.
        inputs: (parameter's name, value) of every tensor that depends on the image, in order.
        uses: Parameters by the parameter's name they are given for.
        outputs: The values that come out.
        shape: Of the first output.
        again: Applies the operation to another tensor in place of its only one; None where it takes several.
        taken: Sample of the first input; of operations with parameters, in a run that keeps numbers.
        given: Sample of the first output, likewise.
    """

    index: int
    name: str
    module: str
    settings: dict[str, Any]
    inputs: list[tuple[str, int]]
    uses: dict[str, Use]
    outputs: list[int]
    shape: tuple[int, ...]
    again: Callable[[Tensor], Any] | None = None
    taken: Sample | None = None
    given: Sample | None = None


@dataclass
class Trace:
    """A whole run.

    Attributes:
        ops: In order of execution.
        outputs: The values of the network's output tensors; -1 for one that does not depend on the image.
        fingerprints: Of every value, in a run that keeps numbers. Value 0 is the image.
        maker: The operation that put out a value.
        shapes: Of every value.
        results: The output tensors themselves.
        modules: Paths of all modules there are.
    """

    ops: list[Op] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    fingerprints: dict[int, Fingerprint] = field(default_factory=dict)
    maker: dict[int, Op] = field(default_factory=dict)
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    results: list[Tensor] = field(default_factory=list)
    modules: frozenset[str] = frozenset()


IMAGE = 0


def trace(network: nn.Module, images: Tensor, numbers: bool = False) -> Trace:
    """Run a network in its present mode, without gradients, and return what it did.

    Args:
        network: Any; its buffers are updated in training mode, as ever.
        images: What it is called with.
        numbers: Keep samples and fingerprints of what was computed.
    """
    recorder = _Recorder(network, images, numbers)
    with unfused(), _module_paths(network, recorder.path), recorder:
        recorder.result.results = tensors_of(network(images))
    recorder.result.outputs = [recorder.value(tensor) for tensor in recorder.result.results]
    return recorder.result


class _Recorder(TorchDispatchMode):
    def __init__(self, network: nn.Module, images: Tensor, numbers: bool) -> None:
        super().__init__()
        self.numbers = numbers
        self.path: list[str] = []
        self.result = Trace(modules=frozenset(name for name, _ in network.named_modules()))
        self.values = WeakIdKeyDictionary()  # tensor -> value
        self.derived = WeakIdKeyDictionary()  # tensor -> Use
        self.count = 1
        for key, tensor in (*network.named_parameters(), *network.named_buffers()):
            self.derived[tensor] = Use((key,), tuple(tensor.shape))
        self.values[images] = IMAGE
        self.result.shapes[IMAGE] = tuple(images.shape)
        if numbers:
            self.result.fingerprints[IMAGE] = Fingerprint.of(images)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        given = _by_name(func, args, kwargs)
        inputs = [(name, t) for name, value in given.items() for t in tree_leaves(value) if isinstance(t, Tensor)]
        flows = [(name, tensor) for name, tensor in inputs if tensor in self.values]
        if not flows:
            output = func(*args, **kwargs)
            self._derive(func, inputs, output)
            return output
        op = self._op(func, args, kwargs, given, flows, inputs)
        if self.numbers and op.uses:
            op.taken = Sample.of(flows[0][1], op.name)
        output = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        written = _written(func, given)
        op.outputs = [self._new_value(tensor, tensor in written) for tensor in _unique(tensors + written)]
        op.shape = tuple(tensors[0].shape) if tensors else ()
        if self.numbers and tensors:
            if op.uses:
                op.given = Sample.of(tensors[0], op.name)
            for tensor, value in zip(_unique(tensors + written), op.outputs, strict=True):
                if tensor.is_floating_point():
                    self.result.fingerprints[value] = Fingerprint.of(tensor)
        self.result.ops.append(op)
        self.result.maker |= dict.fromkeys(op.outputs, op)
        return output

    def value(self, tensor: Tensor) -> int:
        """Return the value that a tensor holds now."""
        return self.values.get(tensor, -1)

    def _op(self, func: Any, args: tuple, kwargs: dict, given: dict, flows: list, inputs: list) -> Op:
        settings = {name: value for name, value in given.items() if not _holds_tensors(value)}
        uses = {name: self.derived[t] for name, t in inputs if t in self.derived and t not in self.values}
        name = _name(func)
        again = None
        if len(inputs) == 1 and isinstance(args[0], Tensor) and func is not None:
            again = _replay(func, args[1:], kwargs)
        places = [(name, self.values[tensor]) for name, tensor in flows]
        return Op(len(self.result.ops), name, ".".join(self.path), settings, places, uses, [], (), again)

    def _new_value(self, tensor: Tensor, written: bool) -> int:
        value = self.count
        self.count += 1
        if written:  # whoever looks at the same memory sees the new numbers
            memory = tensor.untyped_storage()._cdata
            for other in list(self.values):
                if other.untyped_storage()._cdata == memory:
                    self.values[other] = value
        self.values[tensor] = value
        self.result.shapes[value] = tuple(tensor.shape)
        return value

    def _derive(self, func: Any, inputs: list[tuple[str, Tensor]], output: Any) -> None:
        """Note what is made of parameters alone."""
        uses = [self.derived[tensor] for _, tensor in inputs if tensor in self.derived]
        if not uses:
            return
        keys = tuple(dict.fromkeys(key for use in uses for key in use.keys))
        turned = uses[0].turned != (_name(func) in _TURNING)
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor not in self.derived:
                self.derived[tensor] = Use(keys, uses[0].shape, turned)


def _replay(func: Any, rest: tuple, kwargs: dict) -> Callable[[Tensor], Any]:
    return lambda tensor: func(tensor, *rest, **kwargs)


def _name(func: Any) -> str:
    name = func._schema.name.partition("::")[2]
    name = name.rstrip("_") if not name.endswith("__") else name
    return NAMES.get(name, name)


def _by_name(func: Any, args: tuple, kwargs: dict) -> dict[str, Any]:
    names = [argument.name for argument in func._schema.arguments]
    given = {argument.name: argument.default_value for argument in func._schema.arguments}
    return given | dict(zip(names, args, strict=False)) | kwargs


def _written(func: Any, given: dict[str, Any]) -> list[Tensor]:
    """Return the tensors that an operation changes."""
    names = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return [leaf for name in names for leaf in tree_leaves(given[name]) if isinstance(leaf, Tensor)]


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in tree_leaves(value))


def _unique(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list({id(tensor): tensor for tensor in tensors}.values())


@contextmanager
def _module_paths(network: nn.Module, path: list[str]) -> Iterator[None]:
    """Keep in `path` the name of the module that is running, its own hooks included."""
    names = {id(module): name for name, module in network.named_modules()}
    original = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        before = path[:]
        path[:] = [names[id(module)]] if id(module) in names else before
        try:
            return original(module, *args, **kwargs)
        finally:
            path[:] = before

    nn.Module.__call__ = call
    try:
        yield
    finally:
        nn.Module.__call__ = original
