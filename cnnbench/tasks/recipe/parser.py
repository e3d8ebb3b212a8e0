"""The parser of the commands that run a Trainer: an error is one line with the nearest right name."""

import re
from argparse import ArgumentError, ArgumentParser
from collections.abc import Iterable, Sequence
from importlib import import_module
from inspect import signature
from itertools import zip_longest
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, get_args, get_type_hints

import jsonargparse
from jsonargparse import ActionYesNo
from lightning.pytorch.cli import LightningArgumentParser

from cnnbench.callbacks.ema import EMA  # noqa: F401  recipes may name it: what is imported is found
from cnnbench.callbacks.non_finite import StopOnNonFinite  # noqa: F401
from cnnbench.callbacks.tracking import WandbMode
from cnnbench.errors import UserError, did_you_mean
from cnnbench.tasks.recipe.config_file import check_config_file
from cnnbench.tasks.recipe.explanations import (
    BASES,
    class_keys,
    dataclass_of,
    explain,
    must_be_mapping,
    settings_at,
    settings_paths,
)

_SWITCHES = {
    "compile": "Compile the network with torch.compile.",
    "channels_last": "Channels-last memory format of weights and images.",
}


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
        raise UserError(explain(message, (self.command_parser or self).options())) from ex

    def parse_args(self, args: Any = None, *others: Any, **kwargs: Any) -> Any:
        """Parse a command's words; of `--model.optim.clip_grad null` jsonargparse hands on `clip_grad=None`, a text.

        Where a word is such as `--model.optim.help`, print what can be set there and leave.
        """
        if isinstance(args, list):
            _answer_help(args)
            _check_each_has_a_value(args)
        if not self.exit_on_error and isinstance(args, list):  # a parser within this one
            args = [f"{word.removesuffix('=None')}=null" if word.endswith("=None") else word for word in args]
        return super().parse_args(args, *others, **kwargs)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a config, once it is sure that the file is one."""
        check_config_file(Path(path))
        return super().parse_path(path, *args, **kwargs)

    def add_run_options(self) -> None:
        """Add what belongs to no class: tracking, compilation, memory format."""
        self.add_argument(
            "--wandb",
            type=WandbMode,
            default="auto",
            help="Weights & Biases: auto is online with a login, else offline; disabled is off.",
        )
        self.add_argument(
            "--checkpoint_every",
            type=str,
            default="5m",
            help="How often fit saves last.ckpt within an epoch: steps (500), a time (30s, 10m, 2h), or never.",
        )
        for name, text in _SWITCHES.items():
            self.add_argument(f"--{name}", action=ActionYesNo, nargs="?", default=False, help=text)
            self.link_arguments(name, f"model.init_args.{name}")

    def check_top_level(self, keys: Iterable[str]) -> None:
        """Refuse a key of a config that no option has; jsonargparse lets it pass where its value is empty."""
        known = {key.partition(".")[0] for key in self.options()}
        for key in keys:
            if key not in known:
                raise UserError(f"unknown key {key!r}{did_you_mean(key, known, n=1)}")

    def check_values(self, config: Any) -> None:
        """Refuse null where a value belongs, and a value where a mapping does: jsonargparse fails on them late."""
        for root in ("model", "data"):
            module, _, name = config[root].class_path.rpartition(".")
            kind = getattr(import_module(module), name)
            hints, defaults = get_type_hints(kind.__init__), signature(kind).parameters
            for argument, value in vars(config[root].init_args).items():
                path, hint = f"{root}.{argument}", hints.get(argument)
                default = defaults[argument].default if argument in defaults else None
                if value is None and isinstance(default, (str, int, float)) and NoneType not in get_args(hint):
                    raise UserError(f"{path} is null, but must be {getattr(hint, '__name__', hint)}")
                misfit = value is None or isinstance(value, (str, int, float, list))
                if misfit and hint is dataclass_of(hint) is not None:
                    raise UserError(f"{path} is {value!r}, {must_be_mapping(path, class_keys(root, kind))}")

    def options(self) -> set[str]:
        """Return the dotted name of every option, and the keys that hold a class of the user's choice."""
        names = (option for option in self._option_string_actions if option.startswith("--"))
        return {name.removeprefix("--") for name in names if not name.endswith(("+", ".help"))} | BASES.keys()


def _answer_help(words: Sequence[str]) -> None:
    """Print what can be set where a word such as `--model.optim.help` asks for it, and leave."""
    asked = [found[1] for word in words if (found := re.fullmatch(r"--((?:model|data)\.[\w.]+)\.help", word))]
    for path in asked:
        kinds = settings_at(path)
        if not kinds:
            known = sorted(key for root in ("model", "data") for key in settings_paths(root))
            raise UserError(f"no settings at {path!r}{did_you_mean(path, known)}")
        for kind in kinds:
            listing = jsonargparse.ArgumentParser(usage=f"--{path}.<setting>, of {kind.__name__}", add_help=False)
            listing.add_class_arguments(kind, path)
            text = listing.format_help()
            # a data module may have other defaults than its settings' class
            print(re.sub(r",\s+default:\s[^:]*?\)(?=\n|$)", ")", text) if path.startswith("data.") else text)
    if asked:
        raise SystemExit(0)


def _check_each_has_a_value(words: Sequence[str]) -> None:
    """Refuse a setting of model or data that stands alone: jsonargparse would complain of the class."""
    for word, following in zip_longest(words, words[1:], fillvalue="--"):
        if re.fullmatch(r"--(?:model|data)\.[\w.]+", word) and following.startswith("--"):
            raise UserError(f"{word} needs a value")


def configs_first(words: Sequence[str]) -> list[str]:
    """Return a command's words with its configs before its options: what stands later counts.

    Args:
        words: The command and what follows it.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", "-c", action="append", default=[])
    try:
        found, others = parser.parse_known_args([*map(str, words[1:])])
    except ArgumentError:  # no path after --config, which the command's own parser refuses
        return list(words)
    return [*words[:1], *(f"--config={config}" for config in found.config), *others]
