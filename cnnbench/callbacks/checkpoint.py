"""Checkpoints of a run: `best.ckpt` and `last.ckpt`, each whole or not there at all."""

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from cnnbench.callbacks.atomic import written_whole
from cnnbench.errors import UserError, either, first_line


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it there; reads tensors and plain values only.

    A run that is killed, or a disk that is full, leaves the former file as it was. Reading never executes code
    from the file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path` in one visible step."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            UserError: There is no such file, or it is damaged, or not a checkpoint.
        """
        if not Path(path).is_file():
            raise UserError(f"no checkpoint at {path}")
        if not zipfile.is_zipfile(path):  # torch writes zip files; one that was cut short is none
            raise UserError(f"{path} is damaged or not a checkpoint: {_what_it_is(Path(path))}")
        try:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()  # torch verifies no checksums: it would load a weight with a flipped bit
            if broken is not None:
                raise UserError(f"{path} is damaged or not a checkpoint: the checksum of {broken} is wrong")
            checkpoint = super().load_checkpoint(path, map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL (\S+)", str(error))
            what = found[1] if found else "code"
            raise UserError(f"{path} is not a checkpoint of a run: it asks for {what}, which is not run") from error
        except (RuntimeError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
            reason = first_line(error).partition(". ")[0]
            raise UserError(f"{path} is damaged or not a checkpoint: {reason}") from error
        _check_content(checkpoint, path)
        return checkpoint


def check_checkpoint_path(path: Path, runs: Path) -> None:
    """Refuse a path that is no file, naming checkpoints near it, else the latest of `runs`.

    Raises:
        UserError: There is no such file.
    """
    if path.is_file():
        return
    found = [*path.glob("*.ckpt"), *path.glob("checkpoints/*.ckpt"), *path.parent.glob("*.ckpt")]
    found = found or list(runs.glob("**/checkpoints/*.ckpt"))
    alike = [file for file in found if file.stem == path.stem] or found
    latest = sorted(alike, key=lambda file: file.stat().st_mtime, reverse=True)[:2]
    such_as = "; it is a file such as runs/…/checkpoints/best.ckpt"
    nearest = f"; did you mean {either([repr(str(file)) for file in latest])}?" if latest else such_as
    what = f"{path} is a directory, not a checkpoint" if path.is_dir() else f"no checkpoint at {path}"
    raise UserError(what + nearest)


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    return "it is empty" if not head else "it was cut short" if head.startswith(b"PK") else "torch did not write it"


def _check_content(checkpoint: Any, path: str | Path) -> None:
    """Refuse what torch can read, but no run has written."""
    keys = checkpoint.keys() if isinstance(checkpoint, dict) else ()
    if keys and all(isinstance(value, torch.Tensor) for value in checkpoint.values()):
        raise UserError(
            f"{path} is not a checkpoint of a run, such as runs/…/checkpoints/best.ckpt: it holds bare weights"
        )
    if missing := [key for key in ("state_dict", "pytorch-lightning_version") if key not in keys]:
        raise UserError(f"{path} is not a checkpoint of a run: it has no {' and no '.join(missing)}")
    for key in ("state_dict", "hyper_parameters", "cnnbench"):
        if not isinstance(checkpoint.get(key, {}), dict):
            raise UserError(f"{path} is not a checkpoint of a run: its {key} is no mapping")


class BestCheckpoint(ModelCheckpoint):
    """Keeps `best.ckpt` by a metric, saved right after the validation that measured it.

    A run that is continued knows its best score, also where its directory has been moved meanwhile.

    Args:
        directory: Of the run's checkpoints.
        monitor: Name of the metric.
        mode: `max` or `min`.
    """

    def __init__(self, directory: Path, monitor: str, mode: str) -> None:
        super().__init__(
            dirpath=directory,
            filename="best",
            monitor=monitor,
            mode=mode,
            enable_version_counter=False,
            auto_insert_metric_name=False,
            save_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score over where its checkpoint is in this run's directory."""
        path = Path(self.dirpath) / "best.ckpt"
        if state_dict["best_model_path"] and path.is_file():
            own = {"dirpath": self.dirpath, "best_model_path": str(path), "kth_best_model_path": str(path)}
            super().load_state_dict(state_dict | own | {"best_k_models": {str(path): state_dict["best_model_score"]}})
            self.current_score = state_dict["current_score"]
