"""The two sides of a comparison: what names them, and how each is built, here or in another process."""

import inspect
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from cnnbench.compare.detectors import INPUT_SIZE, compared_detector, is_detector
from cnnbench.errors import UserError, did_you_mean, first_line
from cnnbench.models import create_model, list_models, model_info, pretrained_cfg
from cnnbench.models.detection import list_detectors
from cnnbench.models.factory import SOURCES
from cnnbench.models.registry import is_registered
from cnnbench.models.segmentation import list_segmenters

Spec = str | nn.Module | Callable[..., nn.Module]
"""A network: "resnet50", "timm/resnet50", "my_package.nets:build", a module, or a callable that returns one."""

FORMS = "a name such as 'resnet50' or 'timm/resnet50', 'package.module:callable', a torch.nn.Module, or a callable"
PARITY_SIDE = 128  # pixels that show any mistake; more only takes longer
CUSTOMARY_SIZE = (3, 224, 224)


@dataclass(frozen=True)
class Side:
    """One network of a comparison.

    Attributes:
        label: What it is called.
        make: Builds it; can be pickled where the network itself can.
        input_size: Channels, height and width of its images; None: it does not tell.
        fixed_size: Whether it takes no other height and width.
    """

    label: str
    make: Callable[[], nn.Module]
    input_size: tuple[int, int, int] | None = None
    fixed_size: bool = False

    def build(self, **arguments: Any) -> nn.Module:
        """Build the network, in training mode.

        Args:
            arguments: Such as `num_classes=10`, beside or instead of those it has by itself; those that `takes` does
                not know are left out.

        Raises:
            UserError: It cannot be built, or is no module.
        """
        try:
            network = self.make(**{name: value for name, value in arguments.items() if self.takes(name)})
        except (UserError, MemoryError):
            raise
        except Exception as error:  # whatever a user's own function raises
            raise UserError(f"{self.label} cannot be built: {type(error).__name__}: {first_line(error)}") from error
        if not isinstance(network, nn.Module):
            raise UserError(f"{self.label} returns {type(network).__name__}, not a torch.nn.Module")
        return network.train()

    def takes(self, name: str) -> bool:
        """Tell whether an argument of that name can be given; a model by name takes any, and names those it lacks."""
        imported = getattr(self.make, "func", None) is _call_imported
        return bool(_accepted(_imported(*self.make.args) if imported else self.make, {name: None}))

    @property
    def model(self) -> tuple[str, str] | None:
        """Name and source of a model of the registry or of a library; None of any other network."""
        if getattr(self.make, "func", None) is not create_model:
            return None
        return self.make.args[0], self.make.keywords["source"]


def side(spec: Spec, num_classes: int | None = None) -> Side:
    """Return the side that a name, a module or a callable stands for.

    Args:
        spec: A name of `list_models()`; "timm/<name>", "torchvision/<name>" or "cnnbench/<name>"; "package.module:
            callable", looked for from the working directory too; a module, which is copied; or a callable.
        num_classes: Passed on where the network takes it; a module is taken as it is.

    Raises:
        UserError: It does not exist, or is nothing of the kind.
    """
    arguments = {} if num_classes is None else {"num_classes": num_classes}
    if isinstance(spec, nn.Module):
        return _with_size(Side(type(spec).__name__, partial(deepcopy, spec)), getattr(spec, "pretrained_cfg", None))
    if callable(spec):
        return Side(getattr(spec, "__qualname__", type(spec).__name__), partial(spec, **_accepted(spec, arguments)))
    if not isinstance(spec, str):
        raise UserError(f"{spec!r} is no network: give {FORMS}")
    if ":" in spec:
        function = _imported(spec)
        return Side(spec, partial(_call_imported, spec, **_accepted(function, arguments)))
    source, slash, name = spec.rpartition("/")
    source = source if slash else "cnnbench"
    if source not in SOURCES:
        raise UserError(f"unknown source {source!r} in {spec!r}{did_you_mean(source, SOURCES)}")
    if not slash and not is_registered(spec) and _is_import_path(spec):
        raise UserError(f"unknown model {spec!r}; did you mean {':'.join(spec.rsplit('.', 1))!r}?")
    if is_detector(name) and source != "timm":
        return Side(spec, partial(compared_detector, name, source, **arguments), INPUT_SIZE)
    if not slash and not is_registered(name):
        _refuse_other_kinds(name)
    cfg = pretrained_cfg(name, source)
    return _with_size(Side(spec, partial(create_model, name, source=source, **arguments)), cfg)


def _refuse_other_kinds(name: str) -> None:
    """Refuse what is no classifier and has no reference."""
    detectors = list_detectors()
    if name in list_segmenters():
        raise UserError(f"{name} segments, and has no reference to be compared with; what it stands on has: resnet18")
    near = get_close_matches(name, [*list_models(), *detectors], n=1)
    if name in detectors or (near and near[0] in detectors):
        what = f"{name} has no reference to be compared with" if name in detectors else f"unknown detector {name!r}"
        raise UserError(f"{what}; these detectors have one: {', '.join(filter(is_detector, detectors))}")


def reference_of(spec: Spec, num_classes: int | None = None) -> Side:
    """Return what a model of ours must equal.

    Raises:
        UserError: It has no reference: say with which to compare it.
    """
    name = spec.removeprefix("cnnbench/") if isinstance(spec, str) else ""
    if is_detector(name):
        return side(f"torchvision/{name}", num_classes)
    if not is_registered(name) or "/" in name or ":" in name:
        raise UserError(
            f"{side(spec).label} has no reference of its own: name one with `against`, such as timm/resnet50"
        )
    reference = model_info(name).reference
    if reference is None:
        raise UserError(f"{name} is registered without a reference: name one with `against`, such as timm/resnet50")
    if isinstance(reference, str):
        return side(reference, num_classes)
    ours = side(name, num_classes)  # put together from timm's layers: timm has none of that name
    return Side(f"timm's layers as {name}", partial(ours.make, source="timm"), ours.input_size, ours.fixed_size)


def image_size(ours: Side, theirs: Side, wanted: int | None = None) -> tuple[int, int, int]:
    """Return (channels, height, width) of the images that both sides are run on.

    Args:
        ours: One side; its size goes before the other's.
        theirs: The other.
        wanted: Height and width instead of the network's own.
    """
    channels, height, width = ours.input_size or theirs.input_size or CUSTOMARY_SIZE
    return (channels, height, width) if wanted is None else (channels, wanted, wanted)


def parity_image_size(ours: Side, theirs: Side, wanted: int | None = None) -> tuple[int, int, int]:
    """Return (channels, height, width) for the comparison of functions: smaller images where both take them."""
    channels, height, width = image_size(ours, theirs, wanted)
    if wanted is not None or ours.fixed_size or theirs.fixed_size or None in (ours.input_size, theirs.input_size):
        return channels, height, width
    return channels, min(height, PARITY_SIDE), min(width, PARITY_SIDE)


def tensors_of(output: Any) -> list[Tensor]:
    """Return the tensors of a network's output, in order: one of a classifier, several with auxiliary heads."""
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def _with_size(made: Side, cfg: Any) -> Side:
    config = cfg if isinstance(cfg, dict) else vars(cfg) if cfg is not None else {}
    size = config.get("input_size")
    return Side(made.label, made.make, tuple(size) if size else None, bool(config.get("fixed_input_size")))


def _accepted(function: Callable[..., nn.Module], arguments: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return arguments
    names = {parameter.name for parameter in parameters}
    return {key: value for key, value in arguments.items() if key in names}


def _is_import_path(spec: str) -> bool:
    """Tell whether what stands before the last dot is a module, as of "my_package.nets.build"."""
    module_name = spec.rpartition(".")[0]
    if not all(part.isidentifier() for part in spec.split(".")) or not module_name:
        return False
    _look_here_too()
    try:
        return find_spec(module_name) is not None
    except Exception:  # a package around it cannot be imported, whatever it raises
        return False


def _look_here_too() -> None:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)


def _imported(spec: str) -> Callable[..., nn.Module]:
    module_name, _, attribute = spec.partition(":")
    _look_here_too()
    try:
        module = import_module(module_name)
    except Exception as error:  # the module is the user's: it may raise anything
        raise UserError(f"{module_name} of {spec!r} cannot be imported: {first_line(error)}") from error
    if not callable(function := getattr(module, attribute, None)):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        what = f"has no {attribute!r}" if function is None else f"has {attribute!r}, which cannot be called"
        raise UserError(f"{module_name} {what}{did_you_mean(attribute, names)}")
    return function


def _call_imported(spec: str, **arguments: Any) -> nn.Module:
    return _imported(spec)(**arguments)
