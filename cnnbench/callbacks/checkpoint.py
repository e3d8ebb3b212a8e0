"""Checkpoints of a run: `best.ckpt`, `last.ckpt` and the one before it, each whole or not there at all."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from cnnbench.callbacks.atomic import written_whole
from cnnbench.callbacks.checkpoint_files import LAST, PREVIOUS, read_checkpoint
from cnnbench.errors import UserError, either


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it there; reads tensors and plain values only.

    A run that is killed, or a disk that is full, leaves the former file as it was. The `last.ckpt` before the one that
    is written stays as `previous.ckpt`. Reading never executes code from the file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path` in one visible step.

        Raises:
            OSError: It cannot be written, naming `path`.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        former = path.with_name(PREVIOUS) if path.name == LAST else None
        with written_whole(path, former) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # of the write, which torch hides behind its own complaint
                    raise error.__context__ from None
                raise

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            UserError: There is no such file, or it is damaged, or not a checkpoint.
        """
        return read_checkpoint(Path(path), map_location)


def check_checkpoint_path(path: Path, runs: Path) -> None:
    """Refuse a path that is no file, naming checkpoints near it, else the latest of `runs`.

    Raises:
        UserError: There is no such file.
    """
    if path.is_file():
        return
    found = [*path.glob("*.ckpt"), *path.glob("checkpoints/*.ckpt"), *path.parent.glob("*.ckpt")]
    found = [file for file in found or runs.glob("**/checkpoints/*.ckpt") if file.name != PREVIOUS]
    alike = [file for file in found if file.stem == path.stem] or found
    latest = sorted(alike, key=lambda file: file.stat().st_mtime, reverse=True)[:2]
    such_as = "; it is a file such as runs/…/checkpoints/best.ckpt"
    nearest = f"; did you mean {either([repr(str(file)) for file in latest])}?" if latest else such_as
    what = f"{path} is a directory, not a checkpoint" if path.is_dir() else f"no checkpoint at {path}"
    raise UserError(what + nearest)


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

    on_train_batch_end = Callback.on_train_batch_end  # nothing: it saves after validations

    @cached_property
    def state_key(self) -> str:
        """Name of its state in checkpoints; Lightning asks for it at each of its hooks."""
        return super().state_key

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score over where its checkpoint is in this run's directory."""
        path = Path(self.dirpath) / "best.ckpt"
        if state_dict["best_model_path"] and path.is_file():
            own = {"dirpath": self.dirpath, "best_model_path": str(path), "kth_best_model_path": str(path)}
            super().load_state_dict(state_dict | own | {"best_k_models": {str(path): state_dict["best_model_score"]}})
            self.current_score = state_dict["current_score"]
