"""Processes that measure memory: each says what one side takes, and what it does not touch is not counted.

By itself the C library keeps what is freed, in amounts that vary from run to run. Told by `MALLOC` to map every larger
block by itself and to return it at once, resident memory follows what is alive.
"""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from cnnbench.compare.workload import not_enough_memory
from cnnbench.errors import UserError

_LARGER = 65536  # bytes
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(_LARGER), "MALLOC_TRIM_THRESHOLD_": str(_LARGER), "MALLOC_ARENA_MAX": "1"}
_MALLOPT = {-3: _LARGER, -1: _LARGER, -8: 1}  # the same as glibc's mallopt calls them
# Paths first: the network's module may be found by them only.
CHILD = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    sys.path[:] = pickle.load(file)
    from cnnbench.compare.memory import answer
    sys.stdin.readline()  # the other side may be measuring
    answer(file, sys.argv[2])
"""


class MeasuringProcess:
    """A process that imports what it needs at once, and measures when it is told to.

    Args:
        label: Whom it measures.
        job: For `cnnbench.compare.memory.answer`, pickled.
    """

    def __init__(self, label: str, job: bytes) -> None:
        self.label, self.job = label, job

    def __enter__(self) -> "MeasuringProcess":
        self._directory = tempfile.TemporaryDirectory()
        self._asked, self._answered, self._said = (
            Path(self._directory.name, name) for name in ("asked", "answered", "said")
        )
        self._asked.write_bytes(pickle.dumps([str(Path(path).absolute()) for path in sys.path]) + self.job)
        self._start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._end()
        self._directory.cleanup()

    def measured(self, batch_size: int) -> int:
        """Return the bytes, or raise what the process could not do."""
        code = self._run()
        if self._answered.exists():
            found = pickle.loads(self._answered.read_bytes())
            if isinstance(found, UserError):
                raise found
            return found
        if code == -signal.SIGKILL:  # as the kernel does when memory runs out
            raise not_enough_memory(self.label, batch_size)
        said = self._said.read_text(errors="replace") if self._said.exists() else ""
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"{self.label} ended its process with exit code {code}: {last}")

    def _start(self) -> None:
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(self._asked), str(self._answered)],
                env=os.environ | MALLOC,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )

    def _run(self) -> int:
        self._process.communicate(b"measure\n")
        return self._process.returncode

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()


class SpareProcess(MeasuringProcess):
    """The same by a process that was forked early on, and has nothing to import."""

    def _start(self) -> None:
        self._process, self._connection = _spares.pop()

    def _run(self) -> int:
        self._connection.send((self._asked, self._answered, self._said))
        self._process.join()
        return self._process.exitcode

    def _end(self) -> None:
        self._process.kill()
        self._process.join()


_spares: list[tuple[BaseProcess, Connection]] = []


def keep_spares(count: int) -> None:
    """Fork processes for later, from this one as it is now: it has imported what measuring needs, and computed nothing.

    Where the C library cannot be told how to hold memory none are kept.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        context = get_context("fork")
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_wait, args=(there,), daemon=True)
            process.start()
            there.close()
            _spares.append((process, here))


def measuring_process(label: str, job: bytes) -> MeasuringProcess:
    """Return a process to measure by, a spare one while there are some."""
    return SpareProcess(label, job) if _spares else MeasuringProcess(label, job)


def _wait(connection: Connection) -> None:
    """Measure what is asked for, or end with the process that was to ask."""
    from cnnbench.compare.memory import answer

    for option, value in _MALLOPT.items():
        ctypes.CDLL(None).mallopt(option, value)
    try:
        asked, answered, said = connection.recv()
    except EOFError:
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
    with asked.open("rb") as file:
        sys.path[:] = pickle.load(file)
        answer(file, answered)
