"""What a checkpoint says of itself: enough to build its model again, and to show it images as its training did."""

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

import cnnbench

CLASSES = ("class_names", "category_ids")
NORMALISATION = ("image_size", "in_chans", "mean", "std", "interpolation", "crop_pct")
_PLAIN = (str, int, float, bool, type(None))


def record(task: LightningModule, data: LightningDataModule | None) -> dict[str, Any]:
    """Return what a checkpoint keeps as `cnnbench`, all of plain values.

    Args:
        task: With the hyperparameters `name` and `source`.
        data: What it is trained on, if that is a data module.

    Returns:
        `version` of cnnbench; `model` and `source`; `task`, its class; and where there is a data module `class_names`,
        of detection `category_ids`, `image_size`, `in_chans`, `mean`, `std`, `interpolation`, `crop_pct` and `data`,
        its class and arguments, or None where an argument is no plain value.
    """
    known: dict[str, Any] = {"version": cnnbench.__version__, "task": _path(type(task))}
    known |= {"model": task.hparams.name, "source": task.hparams.source}
    if data is not None:
        known |= {key: getattr(data, key) for key in (*CLASSES, *NORMALISATION) if hasattr(data, key)}
        known["data"] = _class_and_arguments(data)
    return known


def _class_and_arguments(data: LightningDataModule) -> dict[str, Any] | None:
    wanted = inspect.signature(type(data)).parameters
    given = {name: value for name, value in data.hparams.items() if name in wanted}
    try:
        return {"class_path": _path(type(data)), "init_args": _plain(given)}
    except TypeError:
        return None


def _plain(value: Any) -> Any:
    """Return a value as YAML knows it.

    Raises:
        TypeError: It cannot be told in plain values.
    """
    if dataclasses.is_dataclass(value):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, _PLAIN):
        return value
    raise TypeError(f"{value!r} is no plain value")


def _path(kind: type) -> str:
    """Return where a class is imported from: a public one from the package itself, whose files may move."""
    if kind.__module__.startswith("cnnbench.") and kind.__name__ in cnnbench.__all__:
        return f"cnnbench.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"
