"""Files that are whole or not there."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ANOTHER_HOSTS = 3600.0  # seconds without a change after which a file of another machine is held to be abandoned


@contextmanager
def written_whole(path: Path, former: Path | None = None) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes `path`'s place when the block ends, and goes if it fails.

    What the block wrote is on the disk before it takes the place. An `OSError` in the block, as of a full disk, names
    `path`.

    Args:
        path: File that is whole at any time, or not there.
        former: Where the file that stood at `path` goes instead of being overwritten.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        yield temporary
        _sync(temporary)
        if former is not None and path.exists():
            path.replace(former)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        if str(error.filename) in ("None", str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(directory: Path) -> list[Path]:
    """Remove what a killed process began to write in `directory` and could not take away; return what it was.

    A directory that may not be written is left as it is.
    """
    if not os.access(directory, os.W_OK):
        return []
    abandoned = [file for file in directory.glob(".*.*.*") if _is_abandoned(file)]
    for file in abandoned:
        file.unlink(missing_ok=True)  # another process of this run may be faster
    return abandoned


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_abandoned(file: Path) -> bool:
    """Return whether `file` is named as `written_whole` does, by a process that no longer runs."""
    host_and_before, _, process = file.name.rpartition(".")
    if not process.isdigit():
        return False
    if not host_and_before.endswith(f".{socket.gethostname()}"):
        return time.time() - file.stat().st_mtime > _ANOTHER_HOSTS
    return int(process) == os.getpid() or not _runs(int(process))  # a container begins anew with the same number


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as another user
        return True
    return True
