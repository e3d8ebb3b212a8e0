"""A pair compared in a process of its own, so that a crash or a lack of memory costs no other pair."""

import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass, replace
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from cnnbench.compare.memory_processes import keep_spares
from cnnbench.compare.pair import BUILDING, RUNS, Tell, compare_specs, sides_of
from cnnbench.compare.result import Comparison
from cnnbench.compare.settings import Settings
from cnnbench.errors import UserError, first_line

MEASURING = ("speed", "memory")  # the checks whose memory depends on the batch size
PRELOADED = tuple(f"cnnbench.compare.{name}" for name in ("pair", "parity", "cost", "speed", "memory"))
_DONE = "done"


@dataclass(frozen=True)
class Pair:
    """Two names, to be compared.

    Attributes:
        model: One side, as `cnnbench.compare.sides.side` takes it.
        against: The other; None: the reference of the registry.
    """

    model: str
    against: str | None = None


def compare_apart(
    pair: Pair, settings: Settings, *, directory: Path = RUNS, wandb: str = "disabled", tell: Tell | None = None
) -> Comparison:
    """Compare a pair in a process of its own.

    A process that is killed while it measures is followed by one with half the batch size.

    Args:
        pair: The names of both sides.
        settings: What is compared, and how.
        directory: Where training duels keep their runs.
        wandb: Weights & Biases of training duels.
        tell: Called before each check.

    Returns:
        What was found; what ended the process before its time is the `error`.
    """
    if _misnamed(pair):
        return compare_specs(pair.model, pair.against, settings)  # which says so, and needs no process
    begun: Comparison | None = None
    while True:
        worker = _Worker(pair, settings, begun, directory, wandb)
        try:
            worker.follow(tell or (lambda check, known: None))
        finally:
            worker.end()
        if worker.doing == _DONE:
            return worker.known
        code = worker.process.exitcode
        if code != -signal.SIGKILL or worker.doing not in MEASURING or settings.batch_size == 1:
            return replace(worker.known, error=_ending(code, worker.doing))
        begun, settings = worker.known, _halved(settings, pair.model)


def _misnamed(pair: Pair) -> bool:
    """Tell whether a name is of no model; what a user wrote is not imported here."""
    if any(":" in name for name in (pair.model, pair.against or "")):
        return False
    try:
        sides_of(pair.model, pair.against)
    except UserError:
        return True
    return False


class _Worker:
    """The process of a pair: what it does, and what it knows."""

    def __init__(self, pair: Pair, settings: Settings, begun: Comparison | None, directory: Path, wandb: str) -> None:
        self.doing = BUILDING
        self.known = begun or Comparison(pair.model, pair.against or "")
        context = _context()
        self._here, self._there = context.Pipe()
        arguments = (self._there, pair, settings, begun, directory, wandb)
        self.process: BaseProcess = context.Process(target=_work, args=arguments)

    def follow(self, tell: Tell) -> None:
        """Start, and take its messages until it is done or has ended."""
        self.process.start()
        self._there.close()
        while self.doing != _DONE and self._here in wait([self._here, self.process.sentinel]):
            try:
                self.doing, self.known = self._here.recv()
            except EOFError:
                break
            tell(self.doing, self.known)
        self.process.join()

    def end(self) -> None:
        """End the process and what it started, if it still runs."""
        if self.process.is_alive():
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has no group of its own yet
                self.process.kill()
            self.process.join()
        self._here.close()


def _context() -> BaseContext:
    """Return how processes are started: where the system can, as copies of one that has imported what they need."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _work(
    connection: Connection, pair: Pair, settings: Settings, begun: Comparison | None, directory: Path, wandb: str
) -> None:
    """Compare, and send what is done and known by then."""
    os.setsid()  # Ctrl-C is for the command alone, which ends this whole group
    os.dup2(2, 1)  # standard output is for the report
    if "memory" in settings.checks and settings.device == "cpu":
        keep_spares(2)  # while there are no threads, which do not outlive a fork
    threading.Thread(target=_end_with_the_command, args=(connection,), daemon=True).start()
    last = [BUILDING, begun or Comparison(pair.model, pair.against or "")]

    def tell(check: str, known: Comparison) -> None:
        last[:] = check, known
        connection.send((check, known))

    try:
        found = compare_specs(
            pair.model, pair.against, settings, directory=directory, wandb=wandb, tell=tell, begun=begun
        )
    except Exception as error:  # a mistake of ours costs a row, not the others
        traceback.print_exc()
        what = f"{type(error).__name__}: {first_line(error)}"
        found = replace(last[1], error=f"{what} ({last[0]}; the traceback is on standard error)")
    connection.send((_DONE, found))


def _end_with_the_command(connection: Connection) -> None:
    try:
        connection.recv()
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)


def _ending(code: int | None, doing: str) -> str:
    if code == -signal.SIGKILL:
        return f"killed: out of memory? ({doing})"
    if code is not None and code < 0:
        return f"crashed by {signal.Signals(-code).name} ({doing})"
    return f"its process ended with exit code {code} ({doing})"


def _halved(settings: Settings, model: str) -> Settings:
    """Return the settings with half the batch size, and say so on standard error."""
    smaller = replace(settings, batch_size=settings.batch_size // 2)
    print(
        f"{model}: {settings.batch_size} images at a time do not fit into memory; on with {smaller.batch_size}",
        file=sys.stderr,
        flush=True,
    )
    return smaller
