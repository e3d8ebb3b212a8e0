"""A command that is given a checkpoint and no recipe: the checkpoint says what its model and its data are."""

import argparse
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

import cnnbench
from cnnbench.callbacks.checkpoint_files import read_checkpoint
from cnnbench.errors import UserError
from cnnbench.tasks.record import CLASSES, NORMALISATION

_LINKED = ("compile", "channels_last")  # set by an option of the command's own
_FOLDERS = {  # of images, by task
    "cnnbench.ClassificationTask": "cnnbench.ImageFolderDataModule",
    "cnnbench.DetectionTask": "cnnbench.DetectionFolderDataModule",
    "cnnbench.MultiTaskTask": "cnnbench.ImageFolderDataModule",
    "cnnbench.SegmentationTask": "cnnbench.MaskFolderDataModule",
}
_SHAPE = ("max_size", "letterbox", "resize")  # what a folder takes over of the run's data beside its normalisation


@dataclass(frozen=True)
class CheckpointAlone:
    """What a command line without a recipe says of checkpoint and data.

    Attributes:
        path: Of the checkpoint.
        data_class: The data module that is named, without the package's name.
        data_folder: Whether a folder of data is named.
    """

    path: Path
    data_class: str | None
    data_folder: bool

    @classmethod
    def of(cls, words: Sequence[str]) -> "CheckpointAlone | None":
        """Return what the words of a command line say, or None where they name a recipe, or no checkpoint."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for names in (("--ckpt_path",), ("--config", "-c"), ("--data",), ("--data.root",), ("--data.predict_root",)):
            parser.add_argument(*names, nargs="?", const="")
        found = vars(parser.parse_known_args(list(words))[0])
        if not found["ckpt_path"] or found["config"] is not None:
            return None
        data_class = None if found["data"] is None else _name(found["data"])
        return cls(Path(found["ckpt_path"]), data_class, bool(found["data.root"] or found["data.predict_root"]))

    def settings(self, images_of_ones_own: bool) -> dict[str, Any]:
        """Return the settings that the checkpoint records.

        Args:
            images_of_ones_own: Whether a folder is one of images where no data module is named, not of the run's data.

        Returns:
            `model`, `channels_last` and `data`: the run's own; for a folder of images, normalisation and classes of the
            run; none for another data module.

        Raises:
            UserError: The file is no whole checkpoint, or does not say what is needed.
        """
        checkpoint = read_checkpoint(self.path)
        record, model = checkpoint.get("cnnbench", {}), checkpoint.get("hyper_parameters", {})
        self._check_version(record)
        if "task" not in record or "class_names" not in record:
            raise UserError(f"{self.path} does not say what its model and classes are: {self._give_config}")
        settings = {
            "model": {
                "class_path": record["task"],
                "init_args": {key: value for key, value in model.items() if key not in _LINKED},
            },
            "channels_last": model.get("channels_last", False),
            "data": self._data(record, images_of_ones_own),
        }
        return {key: value for key, value in settings.items() if value is not None}

    def _data(self, record: dict[str, Any], images_of_ones_own: bool) -> dict[str, Any] | None:
        own = record.get("data")
        if self.data_class is None and self.data_folder and images_of_ones_own:
            return _folder(record)
        if self.data_class is None and own is None:
            without = f"{self.path} does not say what data it was trained on"
            raise UserError(f"{without}: {self._give_config}, or --data CLASS")
        if own is not None and self.data_class in (None, _name(own["class_path"])):
            return own
        return _folder(record) if self.data_class == _name(_folder_class(record)) else None

    def _check_version(self, record: dict[str, Any]) -> None:
        version = record.get("version", "0")
        if Version(version) > Version(cnnbench.__version__):
            written = f"{self.path} was written by cnnbench {version}, this is {cnnbench.__version__}"
            raise UserError(f"{written}: update it, or {self._give_config}")

    @property
    def _give_config(self) -> str:
        own = self.path.parent.parent / "config.yaml"
        return f"give the config of its run: --config {own if own.is_file() else 'runs/…/config.yaml'}"


def recorded_classes(path: Path) -> dict[str, list[Any]]:
    """Return what a checkpoint tells of the classes of its model: their names, and of a detector their ids."""
    record = read_checkpoint(path).get("cnnbench", {})
    return {key: list(record[key]) for key in CLASSES if record.get(key)}


def _folder(record: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a folder of images."""
    class_path = _folder_class(record)
    arguments = (record.get("data") or {}).get("init_args", {})
    known = {key: arguments[key] for key in _SHAPE if key in arguments}
    known |= {key: record[key] for key in (*CLASSES, *NORMALISATION) if key in record}
    accepted = inspect.signature(getattr(cnnbench, _name(class_path))).parameters
    settings = {key: value for key, value in known.items() if key in accepted}
    lists = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    return {"class_path": class_path, "init_args": lists}


def _folder_class(record: dict[str, Any]) -> str:
    return _FOLDERS.get(record.get("task"), _FOLDERS["cnnbench.ClassificationTask"])


def _name(class_path: str) -> str:
    return class_path.rpartition(".")[2]
