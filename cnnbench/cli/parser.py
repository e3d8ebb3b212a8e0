"""The parser of the commands that run a Trainer: an error is one line with the nearest right name."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser

from cnnbench.data import ImageDataModule
from cnnbench.errors import UserError, did_you_mean, either
from cnnbench.models import list_models
from cnnbench.tasks.base import Task

# Keys whose value is a class of the user's choice -> what it must derive from.
_BASES = {"model": Task, "data": ImageDataModule, "trainer.callbacks": Callback}


class Parser(LightningArgumentParser):
    """Raises a `UserError` where jsonargparse would print its usage and leave.

    `command_parser` is the parser of the command that runs, where this one holds no options itself.
    """

    command_parser: "Parser | None" = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong, in a line; a parser within this one reports to it in jsonargparse's own way."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise UserError(self._explain(message)) from ex

    def check_top_level(self, keys: Iterable[str]) -> None:
        """Refuse a key of a config that no option has; jsonargparse lets it pass where its value is empty."""
        known = {key.partition(".")[0] for key in self.known_keys()}
        for key in keys:
            if key not in known:
                raise UserError(f"unknown key {key!r}{did_you_mean(key, known, n=1)}")

    def known_keys(self) -> set[str]:
        """Return the dotted name of every setting, those of the classes for model and data included."""
        if self.command_parser is not None:
            return self.command_parser.known_keys()
        keys = {option.removeprefix("--") for option in self._option_string_actions if option.startswith("--")}
        for root in ("model", "data"):
            for subclass in _subclasses(_BASES[root]):
                keys.update(f"{root}.{name}" for name in _argument_names(subclass))
        return {key for key in keys if not key.endswith(("+", ".help"))}

    # ------------------------------------------------------------------ explanations

    def _explain(self, message: str) -> str:
        """Return in a line what jsonargparse says in many: the innermost reason and the key it stands at."""
        path = ".".join(re.findall(r'Parser key "([^"]+)"', message))
        for pattern, explain in _EXPLANATIONS:
            if found := re.search(pattern, message, re.DOTALL):
                return explain(self, path, found, message)
        lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
        return "; ".join(lines[:3])

    def _unknown_key(self, path: str, found: re.Match, message: str) -> str:
        key = found[1] if "." in found[1] or not path else f"{path}.{found[1]}"
        known = self.known_keys()
        if path and all(not name.startswith(f"{path}.") for name in known):
            return f"unknown key {key!r}"  # of a class that this parser knows nothing of, a callback's say
        return f"unknown key {key!r}{did_you_mean(key, known, n=1)}"

    def _unknown_class(self, path: str, found: re.Match, message: str) -> str:
        base = _BASES.get(path)
        names = [subclass.__name__ for subclass in _subclasses(base)] if base else []
        if path == "model" and found[1] in list_models():
            return f"model: {found[1]!r} is a model's name, give it as --model.name {found[1]}"
        return f"{path}: no class {found[1]!r}{did_you_mean(found[1].rpartition('.')[2], names)}"

    def _no_class_path(self, path: str, found: re.Match, message: str) -> str:
        names = [subclass.__name__ for subclass in _subclasses(_BASES[path])] if path in _BASES else []
        return f"{path} has no class_path{did_you_mean('', names)}"

    def _wrong_type(self, path: str, found: re.Match, message: str) -> str:
        reasons = re.findall(r"^( *)[- ]*Expected a ([^\n]+?)(?:\. Got value|$)", message, re.MULTILINE)
        innermost = max(len(indent) for indent, _ in reasons)
        kinds = [kind for indent, kind in reasons if len(indent) == innermost]
        expected = list(dict.fromkeys(name for kind in kinds for name in _plain(kind)))
        given = re.findall(r"Got value: ([^\n]*)", message) or re.findall(r"Given value: ([^\n]*)", message)
        return f"{path} is {given[0] if given else '?'!r}, but must be {either(expected)}"

    def _missing_file(self, path: str, found: re.Match, message: str) -> str:
        missing = Path(found[1])
        there = [str(file) for file in sorted(Path("configs").rglob("*.yaml"))]
        return f"no config at {missing}{did_you_mean(_below_here(missing), there)}"

    def _required(self, path: str, found: re.Match, message: str) -> str:
        missing = " and ".join(key.rpartition(".")[2] for key in found[1].split(", "))
        return f"{missing} missing: give a recipe with --config, for example --config configs/convnext_t.yaml"

    def _not_a_mapping(self, path: str, found: re.Match, message: str) -> str:
        return "the config is empty or not a mapping of model, data and trainer"

    def _syntax(self, path: str, found: re.Match, message: str) -> str:
        return "the config is not valid YAML: " + " ".join(found[1].split())


# Pattern -> the method that explains it, the most particular first.
_EXPLANATIONS: tuple[tuple[str, Callable[[Parser, str, re.Match, str], str]], ...] = (
    (r"(?:Option|does not accept option|Key) '([^']+)'", Parser._unknown_key),
    (r"unrecognized arguments: --([^\s=]+)", Parser._unknown_key),
    (r"Expected a dot import path string: (\S+)", Parser._unknown_class),
    (r"Problem with given class_path '([^']+)':\s+(?:module '|No module)", Parser._unknown_class),
    (r"Import path (\S+) does not correspond", Parser._unknown_class),
    (r"(?:File does not exist|Path is not a file): '([^']+)'", Parser._missing_file),
    (r"arguments are required: ([^\n]+)", Parser._required),
    (r"Unexpected config:", Parser._not_a_mapping),
    (r"Problems parsing config: (.*)", Parser._syntax),
    (r"Not a valid subclass of|Expected an instantiatable class", Parser._no_class_path),
    (r"Expected a ", Parser._wrong_type),
)


def _subclasses(base: type) -> Iterator[type]:
    for subclass in base.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _argument_names(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the arguments' names, and below them those of arguments that are dataclasses."""
    init = function.__init__ if inspect.isclass(function) else function
    hints = get_type_hints(init)
    for name in inspect.signature(function).parameters:
        yield name
        hint = hints.get(name)
        for kind in (hint, *get_args(hint)):
            if inspect.isclass(kind) and dataclasses.is_dataclass(kind):
                yield from (f"{name}.{inner}" for inner in _argument_names(kind))


def _plain(kind: str) -> list[str]:
    """Return the names in jsonargparse's description of a type: `<class 'int'>`, `typing.Literal['a', 'b']`."""
    if kind == "<class 'NoneType'>":
        return ["null"]
    if found := re.fullmatch(r"<class '(?:.*\.)?(\w+)'>", kind):
        return [found[1]]
    if found := re.match(r"typing\.Literal\[(.*)\]", kind):
        return [choice.strip("' ") for choice in found[1].split(",")]
    return [kind]


def _below_here(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
