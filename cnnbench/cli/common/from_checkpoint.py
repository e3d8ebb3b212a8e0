"""A command that is given a checkpoint and no recipe: the checkpoint says what its model and its data are."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.version import Version

from cnnbench import __version__
from cnnbench.callbacks.checkpoint_files import read_checkpoint
from cnnbench.errors import UserError
from cnnbench.tasks.record import NORMALISATION

_LINKED = ("compile", "channels_last")  # set by an option of the command's own
_IMAGES = "cnnbench.ImageFolderDataModule"


def checkpoint_alone(words: Sequence[str]) -> Path | None:
    """Return the checkpoint that a command line names, where it names no recipe beside it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--ckpt_path", nargs="?")
    parser.add_argument("--config", "-c", nargs="?", const="")
    found, _ = parser.parse_known_args(list(words))
    return Path(found.ckpt_path) if found.ckpt_path and found.config is None else None


def names_images(words: Sequence[str]) -> bool:
    """Return whether a command line names a folder of images, and no data module to read it otherwise."""
    keys = {word.partition("=")[0] for word in words}
    return "--data" not in keys and not keys.isdisjoint(("--data.root", "--data.predict_root"))


def recorded_settings(path: Path, images: bool) -> dict[str, Any]:
    """Return the settings of a command that has this checkpoint and no recipe.

    Args:
        path: Of a run's checkpoint.
        images: Whether to read a folder of images, normalised as those of the run; else the run's own data.

    Returns:
        `model`, `data`, `channels_last`.

    Raises:
        UserError: The file is no whole checkpoint, or does not say what is needed.
    """
    checkpoint = read_checkpoint(path)
    record = checkpoint.get("cnnbench", {})
    _check_version(path, record)
    model = {key: value for key, value in checkpoint.get("hyper_parameters", {}).items() if key not in _LINKED}
    if "task" not in record or "class_names" not in record or not model:
        raise UserError(f"{path} does not say what its model and classes are: train again{_or_config(path)}")
    data = _folder(record) if images else record.get("data")
    if data is None:
        raise UserError(f"{path} does not say what data it was trained on: name it (--data CLASS){_or_config(path)}")
    return {
        "model": {"class_path": record["task"], "init_args": model},
        "data": data,
        "channels_last": checkpoint["hyper_parameters"].get("channels_last", False),
    }


def recorded_class_names(path: Path) -> list[str] | None:
    """Return the names of the classes of a checkpoint's model, or None where it does not tell them."""
    names = read_checkpoint(path).get("cnnbench", {}).get("class_names")
    return None if not names else list(names)


def _folder(record: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a folder of images."""
    settings = {key: record[key] for key in ("class_names", *NORMALISATION) if key in record}
    lists = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    return {"class_path": _IMAGES, "init_args": lists}


def _check_version(path: Path, record: dict[str, Any]) -> None:
    version = record.get("version", "0")
    if Version(version) > Version(__version__):
        raise UserError(f"{path} was written by cnnbench {version}, this is {__version__}: update it{_or_config(path)}")


def _or_config(path: Path) -> str:
    """Return the other way: the config of the run that a checkpoint lies in, or what it looks like."""
    own = path.parent.parent / "config.yaml"
    return f", or give the config of its run: --config {own if own.is_file() else 'runs/…/config.yaml'}"
