"""Checkpoints of a run: `best.ckpt` and `last.ckpt`, each whole or not there at all."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from cnnbench.errors import UserError, first_line


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it there; reads tensors and plain values only.

    A run that is killed, or a disk that is full, leaves the former file as it was. Reading never executes code
    from the file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path` in one visible step."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            UserError: There is no such file, or it is damaged, or not a checkpoint.
        """
        if not Path(path).is_file():
            raise UserError(f"no checkpoint at {path}")
        try:
            checkpoint = super().load_checkpoint(path, map_location, weights_only=True)
        except (
            RuntimeError,
            EOFError,
            OSError,
            KeyError,
            pickle.UnpicklingError,
            zipfile.BadZipFile,
        ) as error:
            raise UserError(f"{path} is damaged or not a checkpoint: {first_line(error)}") from error
        if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
            raise UserError(f"{path} is not a checkpoint of a run: it has no state_dict")
        return checkpoint


def best_and_last(directory: Path, monitor: str, mode: str) -> ModelCheckpoint:
    """Keep `best.ckpt` by `monitor` and `last.ckpt` in `directory`, each validation anew."""
    return ModelCheckpoint(
        dirpath=directory,
        filename="best",
        monitor=monitor,
        mode=mode,
        save_last=True,
        enable_version_counter=False,
        auto_insert_metric_name=False,
    )
