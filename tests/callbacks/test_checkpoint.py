"""Checkpoints are whole or not there, and are read without executing anything."""

import os
import pickle

import pytest
import torch

from cnnbench.callbacks.checkpoint import AtomicCheckpointIO
from cnnbench.errors import UserError

WHOLE = {"pytorch-lightning_version": "2.6.0", "state_dict": {"weight": torch.arange(4.0)}, "epoch": 3}


@pytest.fixture
def io():
    return AtomicCheckpointIO()


@pytest.fixture
def path(tmp_path, io):
    """A whole checkpoint."""
    io.save_checkpoint(WHOLE, tmp_path / "checkpoints/last.ckpt")
    return tmp_path / "checkpoints/last.ckpt"


def test_what_is_written_is_read(io, path):
    read = io.load_checkpoint(path)
    assert torch.equal(read["state_dict"]["weight"], WHOLE["state_dict"]["weight"])
    assert read["epoch"] == 3


class FullDisk:
    """Fails after some bytes, as a disk does."""

    def __reduce__(self):
        raise OSError(28, "No space left on device")


def test_a_failed_save_leaves_the_former_checkpoint_and_nothing_else(io, path):
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        io.save_checkpoint({**WHOLE, "more": FullDisk()}, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_hostile_file_is_not_executed(io, tmp_path):
    path, marker = tmp_path / "hostile.ckpt", tmp_path / "marker"
    torch.save({"state_dict": {}, "trap": Hostile(marker)}, path)
    with pytest.raises(UserError, match=r"hostile\.ckpt"):
        io.load_checkpoint(path)
    assert not marker.exists()


DAMAGED = {
    "truncated": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "text": lambda whole: b"not a checkpoint\n",
    "pickle": lambda whole: pickle.dumps([1, 2]),
    "flipped": lambda whole: whole[:200] + bytes(200) + whole[400:],
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_named(io, path, damage):
    path.write_bytes(DAMAGED[damage](path.read_bytes()))
    with pytest.raises(UserError, match=r"last\.ckpt is damaged or not a checkpoint"):
        io.load_checkpoint(path)


def test_a_bare_state_dict_is_named(io, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(WHOLE["state_dict"], path)
    with pytest.raises(UserError, match=r"weights\.pth is not a checkpoint of a run"):
        io.load_checkpoint(path)


def test_a_missing_file_is_named(io, tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint at .*nowhere\.ckpt"):
        io.load_checkpoint(tmp_path / "nowhere.ckpt")
