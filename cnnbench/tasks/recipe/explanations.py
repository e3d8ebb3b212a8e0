"""What jsonargparse complains of in many lines, in one: the key, what is wrong with it, the nearest right one."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

from lightning.pytorch import Callback

import cnnbench
from cnnbench.data import ImageDataModule
from cnnbench.errors import did_you_mean, either
from cnnbench.models import list_models
from cnnbench.tasks.base import Task
from cnnbench.tasks.recipe.nearest_key import did_you_mean_key

# Keys whose value is a class of the user's choice -> what it must derive from.
BASES: dict[str, type] = {"model": Task, "data": ImageDataModule, "trainer.callbacks": Callback}


def explain(message: str, options: Iterable[str]) -> str:
    """Return in a line what is wrong.

    Args:
        message: Of jsonargparse.
        options: The dotted names of the command's own options.
    """
    complaint = _Complaint(message, frozenset(options))
    for pattern, explanation in _EXPLANATIONS:
        if found := re.search(pattern, message, re.DOTALL):
            return explanation(complaint, found)
    return "; ".join([line.strip(" -") for line in message.splitlines() if line.strip()][:3])


def class_keys(root: str, kind: type) -> Iterator[str]:
    """Yield the dotted names of the arguments of a class that stands at `root`, dataclasses among them resolved."""
    for name, hint in _arguments(kind):
        yield f"{root}.{name}"
        if dataclass := dataclass_of(hint):
            yield from class_keys(f"{root}.{name}", dataclass)


def settings_at(path: str) -> list[type]:
    """Return the dataclasses that can stand at a dotted name such as `model.optim`, by name."""
    return sorted(settings_paths(path.partition(".")[0]).get(path, ()), key=lambda kind: kind.__name__)


def settings_paths(root: str) -> dict[str, set[type]]:
    """Return the dotted names below `root` at which dataclasses can stand, and those of each."""
    found: dict[str, set[type]] = {}
    for kind in _offered(root):
        for name, hint in _arguments(kind):
            if dataclass := dataclass_of(hint):
                found.setdefault(f"{root}.{name}", set()).add(dataclass)
    return found


def dataclass_of(hint: Any) -> type | None:
    """Return the dataclass that a type hint names, alone or as one choice of several."""
    for kind in (hint, *get_args(hint)):
        if inspect.isclass(kind) and dataclasses.is_dataclass(kind):
            return kind
    return None


@dataclasses.dataclass(frozen=True)
class _Complaint:
    message: str
    options: frozenset[str]

    @cached_property
    def path(self) -> str:
        """The key that the complaint stands at, such as `model.optim.lr`."""
        keys = re.findall(r'Parser key "([^"]+)"', self.message)
        return ".".join(key for before, key in zip([None, *keys], keys, strict=False) if key != before)

    @cached_property
    def root(self) -> str:
        """The key of the class within which the complaint stands; empty for an option of the command itself."""
        return next((root for root in BASES if f"{self.path}.".startswith(f"{root}.")), "")

    @cached_property
    def given_class(self) -> type | None:
        """The class that the user chose at `root`, where there is one."""
        if not (found := re.search(r"Problem with given class_path '([\w.]+)\.(\w+)'", self.message)):
            return None
        return getattr(import_module(found[1]), found[2])

    @cached_property
    def keys(self) -> set[str]:
        """Every key that could stand here: the options, and the arguments of the classes."""
        keys = set(self.options)
        for root in BASES:
            chosen = [self.given_class] if root == self.root and self.given_class else _offered(root)
            if root != "trainer.callbacks" or self.given_class:
                keys.update(key for kind in chosen for key in class_keys(root, kind))
        return keys

    @property
    def others(self) -> list[type]:
        """The classes that the user could have chosen instead."""
        if self.given_class is None or self.root == "trainer.callbacks":
            return []
        return [kind for kind in _offered(self.root) if kind is not self.given_class]

    def at(self, key: str) -> str:
        """Return the full name of a key that the message may name by its last part only."""
        return key if not self.path or f"{key}.".startswith(f"{self.root}.") else f"{self.path}.{key}"


def _unknown_key(complaint: _Complaint, found: re.Match) -> str:
    name = ".".join(filter(None, found.groups()))
    if complaint.path.endswith(f".{name}") and "Expected a " in complaint.message:  # known, and of another type
        return _wrong_type(complaint, found)
    key = complaint.at(name)
    owners = [kind.__name__ for kind in complaint.others if key in class_keys(complaint.root, kind)]
    if owners := list(dict.fromkeys(owners)):
        given = complaint.given_class.__name__
        return f"unknown key {key!r}: {given} has none, {either(owners)} has{_recipe_for(given)}"
    return f"unknown key {key!r}{did_you_mean_key(key, complaint.keys)}"


def _recipe_for(kind: str) -> str:
    """Return the clause that names a recipe for this class, empty where there is none: another class's does not fit."""
    recipes = sorted(file for file in Path("configs").rglob("*.yaml") if file.is_file())
    found = next((file for file in recipes if f"class_path: {kind}\n".encode() in file.read_bytes()), None)
    return f"; {found} is a recipe for {kind}" if found else ""


def _stray_word(complaint: _Complaint, found: re.Match) -> str:
    word = found[1]
    if word in list_models():
        return f"{word!r} belongs to no option: give a model as --model.name {word}"
    if word.endswith((".yaml", ".yml")):
        return f"{word!r} belongs to no option: give a recipe as --config {word}"
    return f"{word!r} belongs to no option; --help names them"


def _unknown_class(complaint: _Complaint, found: re.Match) -> str:
    path, name = complaint.path, found[1]
    if path not in BASES:
        return _no_mapping(complaint, found)
    if path == "model" and name in list_models():
        return f"model: {name!r} is a model's name, give it as --model.name {name}"
    names = [kind.__name__ for kind in _offered(path)]
    return f"{path}: no class {name!r}{did_you_mean(name.rpartition('.')[2], names)}"


def _no_class_path(complaint: _Complaint, found: re.Match) -> str:
    names = [kind.__name__ for kind in _offered(complaint.root)] if complaint.root else []
    return f"{complaint.path} has no class_path{did_you_mean('', names)}"


def _wrong_type(complaint: _Complaint, found: re.Match) -> str:
    reasons = re.findall(r"^( *)[- ]*Expected a ([^\n]+?)(?:\. Got value|$)", complaint.message, re.MULTILINE)
    innermost = max(len(indent) for indent, _ in reasons)
    kinds = [kind for indent, kind in reasons if len(indent) == innermost]
    expected = list(dict.fromkeys(name for kind in kinds for name in _plain(kind)))
    given = re.findall(r"Got value: ([^\n]*)", complaint.message)
    given += re.findall(r"Given value: ([^\n]*)", complaint.message)
    return f"{complaint.path} is {given[0] if given else '?'!r}, but must be {either(expected)}{_example(expected)}"


def _example(expected: list[str]) -> str:
    return ", such as '{name: value}' with a space after each colon" if "a mapping" in expected else ""


def _no_mapping(complaint: _Complaint, found: re.Match) -> str:
    return f"{complaint.path} is {found[1]!r}, {must_be_mapping(complaint.path, complaint.keys)}"


def must_be_mapping(path: str, keys: Iterable[str]) -> str:
    """Return what a message says of a key that holds others, and does not."""
    names = sorted(key.removeprefix(f"{path}.") for key in keys if key.startswith(f"{path}."))
    return f"but must be a mapping of {', '.join(names)}" if names else "but must be a mapping"


def _missing_config(complaint: _Complaint, found: re.Match) -> str:
    missing = Path(found[1])
    shown = missing.relative_to(Path.cwd()) if missing.is_relative_to(Path.cwd()) else missing
    own = [file for file in (missing / "config.yaml", missing.parent.parent / "config.yaml") if file.is_file()]
    there = own or sorted(Path("configs").rglob("*.yaml"))
    nearest = did_you_mean(str(own[0] if own else shown), map(str, there))
    return f"{shown} is a directory, not a config{nearest}" if missing.is_dir() else f"no config at {shown}{nearest}"


def _required(complaint: _Complaint, found: re.Match) -> str:
    missing = " and ".join(key.rpartition(".")[2] for key in found[1].split(", "))
    if complaint.given_class:
        return f"{complaint.path}: {complaint.given_class.__name__} needs {missing}, for example in a recipe (--config)"
    return f"{missing} missing: give a recipe with --config, for example --config configs/convnext_t.yaml"


def _no_switch(complaint: _Complaint, found: re.Match) -> str:
    return f"{found[1]} is {found[2]!r}, but must be true or false"


def _empty(complaint: _Complaint, found: re.Match) -> str:
    return "--config needs the path of a recipe, for example --config configs/convnext_t.yaml"


# Pattern -> what explains it, the most particular first.
_EXPLANATIONS: tuple[tuple[str, Callable[[_Complaint, re.Match], str]], ...] = (
    (r"Group '([^']+)' does not accept option '([^']+)'", _unknown_key),
    (r"(?:Option|does not accept option|Key) '([^']+)'", _unknown_key),
    (r"unrecognized arguments: --([^\s=]+)", _unknown_key),
    (r"unrecognized arguments: (\S+)", _stray_word),
    (r"Unable to load config ['\"]([^\n]*)['\"]\n", _no_mapping),
    (r"Expected a dot import path string: (\S+)", _unknown_class),
    (r"Problem with given class_path '([^']+)':\s+(?:module '|No module)", _unknown_class),
    (r"Import path (\S+) does not correspond", _unknown_class),
    (r"Import path does not correspond to a subclass.*Given value: (\S+)", _unknown_class),
    (r"(?:File does not exist|Path is not a file): '([^']+)'", _missing_config),
    (r"arguments are required: ([^\n]+)", _required),
    (r"argument --(\w+)\S*: invalid \S+ value: '([^']*)'", _no_switch),
    (r"Unexpected config:", _empty),
    (r"Expected a (?!<class 'NoneType'>|path)", _wrong_type),
    (r"Not a valid subclass of|instantiatable class|argument of type '\w+' is not|object has no", _no_class_path),
    (r"Expected a ", _wrong_type),
)


def _offered(root: str) -> Iterator[type]:
    """Yield the classes that can stand at a key: this package's public ones and those from elsewhere."""
    pending = list(BASES[root].__subclasses__())
    for kind in pending:
        pending += kind.__subclasses__()
        if not kind.__name__.startswith("_") and (
            not kind.__module__.startswith("cnnbench.") or kind.__name__ in cnnbench.__all__
        ):
            yield kind


def _arguments(kind: type) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind.__init__)
    for name in inspect.signature(kind).parameters:
        yield name, hints.get(name)


def _plain(kind: str) -> list[str]:
    """Return the names in jsonargparse's description of a type: `<class 'int'>`, `typing.Literal['a', 'b']`."""
    plain = {"<class 'NoneType'>": "null", "<class 'bool'>": "true or false", "<class 'dict'>": "a mapping"}
    if kind in plain:
        return [plain[kind]]
    if found := re.fullmatch(r"<class '(?:.*\.)?(\w+)'>", kind):
        return [found[1]]
    if found := re.match(r"typing\.Literal\[(.*)\]", kind):
        return [choice.strip("' ") for choice in found[1].split(",")]
    return [kind]
