"""Checkpoints of a run: `best.ckpt`, `last.ckpt` and the one before it, each whole or not there at all."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

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
    found = found or list(runs.glob("**/checkpoints/*.ckpt"))
    alike = [file for file in found if file.stem == path.stem] or found
    latest = sorted(alike, key=lambda file: file.stat().st_mtime, reverse=True)[:2]
    such_as = "; it is a file such as runs/…/checkpoints/best.ckpt"
    nearest = f"; did you mean {either([repr(str(file)) for file in latest])}?" if latest else such_as
    what = f"{path} is a directory, not a checkpoint" if path.is_dir() else f"no checkpoint at {path}"
    raise UserError(what + nearest)


def best_and_last(directory: Path, monitor: str, mode: str) -> tuple[ModelCheckpoint, "LastCheckpoint"]:
    """Return the callbacks that keep `best.ckpt` by `monitor`, and `last.ckpt`, in `directory`."""
    best = ModelCheckpoint(
        dirpath=directory,
        filename="best",
        monitor=monitor,
        mode=mode,
        enable_version_counter=False,
        auto_insert_metric_name=False,
    )
    return best, LastCheckpoint(directory / LAST)


class LastCheckpoint(Checkpoint):
    """Saves after every epoch, after every validation within one, and at the end of training, better or not.

    Lightning's own `save_last` writes only where a best checkpoint is written too.

    Args:
        path: File to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved_step = -1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save within an epoch; a validation at its end is followed by the end itself."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, once the metrics of the epoch are complete."""
        self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what was trained since."""
        if trainer.global_step != self._saved_step:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:
            self._saved_step = trainer.global_step
            trainer.save_checkpoint(self.path)
