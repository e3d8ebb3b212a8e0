"""A run is trained by one process at a time, or by one group of them."""

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from cnnbench.errors import UserError

LOCK = ".lock"  # in the run's directory

_log = logging.getLogger(__name__)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Within, no other process can train the run in `directory`; the system forgets a process that is killed.

    Processes that this one starts do not inherit the lock, and over a network it holds on other machines too.

    Raises:
        UserError: Another process trains it.
    """
    path = directory / LOCK
    with _locked(path) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> TextIOWrapper:
    """Open the file and lock it; one that its former owner removes meanwhile is locked by nobody."""
    while True:
        file = path.open("a+", encoding="utf-8")
        _lock(file, path)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()


def _lock(file: TextIOWrapper, path: Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        with file:
            file.seek(0)
            owner = file.read() or "another process"
        raise UserError(f"{path.parent} is being trained already, by {owner}: stop it, or wait for its end") from error
    except OSError as error:
        _log.warning("%s: %s; see to it that no other process trains this run", path, error.strerror)
