"""Checkpoints are whole or not there, and are read without executing anything."""

import os
import pickle
import resource
import subprocess
import sys

import pytest
import torch

from cnnbench.callbacks.atomic import remove_abandoned, written_whole
from cnnbench.callbacks.checkpoint import AtomicCheckpointIO
from cnnbench.callbacks.checkpoint_files import last_whole
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


@pytest.fixture
def little_room():
    """No file can become larger than 1 MB, as on a disk that is nearly full."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.mark.parametrize("size", [(1 << 18) + 1, 1 << 20])  # fails when the file is closed, or long before
def test_a_write_that_fails_names_the_file_and_leaves_both_former_ones(io, path, little_room, size):
    io.save_checkpoint(WHOLE, path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(OSError, match="File too large") as caught:
        io.save_checkpoint({**WHOLE, "state_dict": {"weight": torch.ones(size)}}, path)
    assert caught.value.filename == str(path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


SAVED_AND_KILLED = """
import os, random, signal, sys, time, torch
from pathlib import Path
from cnnbench.callbacks.checkpoint import AtomicCheckpointIO

def save(directory):
    for step in range(10_000):
        weights = {f"w{i}": torch.full((1000, 250), float(step)) for i in range(4)}
        checkpoint = {"pytorch-lightning_version": "2", "state_dict": weights}
        AtomicCheckpointIO().save_checkpoint(checkpoint, directory / "last.ckpt")
        (directory / "step").write_text(str(step))

torch.set_num_threads(1)
for round in range(5):
    directory = Path(sys.argv[1], str(round))
    directory.mkdir()
    if (child := os.fork()) == 0:
        save(directory)
    while not (directory / "previous.ckpt").exists():
        time.sleep(0.01)
    time.sleep(random.Random(round).uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_a_kill_in_the_midst_of_a_save_leaves_a_whole_checkpoint(io, tmp_path):
    """Whatever moment it comes at: the newest of `last` and `previous` is whole, and the rest is cleared away."""
    subprocess.run([sys.executable, "-c", SAVED_AND_KILLED, str(tmp_path)], check=True)
    for directory in tmp_path.iterdir():
        newest, damaged = last_whole(directory)
        assert not damaged
        (step,) = {value.unique().item() for value in io.load_checkpoint(newest)["state_dict"].values()}
        assert step >= int((directory / "step").read_text() or 0)
        (directory / "step").unlink()
        remove_abandoned(directory)
        assert {file.name for file in directory.iterdir()} <= {"last.ckpt", "previous.ckpt"}


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    with written_whole(tmp_path / "last.ckpt") as temporary:
        temporary.touch()
        before_the_number = temporary.name.rpartition(".")[0]
    with subprocess.Popen(["sleep", "60"]) as other:
        alive, of_the_user = tmp_path / f"{before_the_number}.{other.pid}", tmp_path / ".notes.about.mine"
        elsewhere = tmp_path / f".last.ckpt.another-host.{os.getpid()}"
        for file in (alive, of_the_user, elsewhere):
            file.write_text("some")
        found = remove_abandoned(tmp_path)
        other.kill()
    assert found == []
    os.utime(elsewhere, (0, 0))
    assert sorted(remove_abandoned(tmp_path)) == sorted([alive, elsewhere])
    assert of_the_user.exists()


def test_the_last_but_one_is_kept(io, path):
    io.save_checkpoint({**WHOLE, "epoch": 4}, path)
    io.save_checkpoint({**WHOLE, "epoch": 5}, path)
    epochs = {file.name: io.load_checkpoint(file)["epoch"] for file in path.parent.iterdir()}
    assert epochs == {"last.ckpt": 5, "previous.ckpt": 4}


def test_the_one_before_takes_the_place_of_a_damaged_last_and_is_named(io, path):
    io.save_checkpoint(WHOLE, path)
    previous = path.with_name("previous.ckpt")
    assert last_whole(path.parent) == (path, {})
    path.write_bytes(path.read_bytes()[:-100])
    assert last_whole(path.parent) == (previous, {path: "it was cut short"})
    with pytest.raises(UserError, match=rf"last\.ckpt is damaged.*the one before it is whole: {previous}"):
        io.load_checkpoint(path)
    previous.write_bytes(b"")
    assert last_whole(path.parent) == (None, {path: "it was cut short", previous: "it is empty"})
    assert last_whole(path.parent / "nowhere") == (None, {})


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
