"""Checkpoint files: whether one is whole, which to take where the newest is not, and how one is read."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from cnnbench.errors import UserError, first_line

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"  # the one before it


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint's file, such as "it was cut short", or None where it is whole.

    All of the file is read, and compared with the checksums in it.
    """
    if not zipfile.is_zipfile(path):  # torch writes zip files; one that was cut short is none
        with path.open("rb") as file:
            head = file.read(4)
        return "it is empty" if not head else "it was cut short" if head.startswith(b"PK") else "torch did not write it"
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # torch verifies no checksums: it would load a weight with a flipped bit
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:  # by what of it is damaged
        return first_line(error)
    return None if broken is None else f"the checksum of {broken} is wrong"


def last_whole(directory: Path) -> tuple[Path | None, dict[Path, str]]:
    """Return the checkpoint that a run is to be trained on from.

    Args:
        directory: Folder of its checkpoints.

    Returns:
        `last.ckpt`, where that is damaged or not there `previous.ckpt`, else None; and what is wrong with each file
        that was passed over.
    """
    damaged: dict[Path, str] = {}
    for path in (directory / LAST, directory / PREVIOUS):
        if path.is_file():
            reason = damage(path)
            if reason is None:
                return path, damaged
            damaged[path] = reason
    return None, damaged


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a run's checkpoint: tensors and plain values, and nothing that executes code.

    Raises:
        UserError: There is no such file, or it is damaged, or not a checkpoint.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    if reason := damage(path):
        raise UserError(f"{path} is damaged or not a checkpoint: {reason}{_instead(path)}")
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = found[1] if found else "code"
        raise UserError(f"{path} is not a checkpoint of a run: it asks for {what}, which is not run") from error
    except (RuntimeError, EOFError, OSError, KeyError) as error:
        reason = first_line(error).partition(". ")[0]
        raise UserError(f"{path} is damaged or not a checkpoint: {reason}") from error
    _check_content(checkpoint, path)
    return checkpoint


def _instead(path: Path) -> str:
    """Return what to say of the checkpoint before `path`, where that one is whole."""
    previous = path.with_name(PREVIOUS)
    whole = path.name == LAST and previous.is_file() and damage(previous) is None
    return f"; the one before it is whole: {previous}" if whole else ""


def _check_content(checkpoint: Any, path: Path) -> None:
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
