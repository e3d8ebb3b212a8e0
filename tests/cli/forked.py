"""Commands and scripts in several processes, as torchrun starts them; what they import is imported once, before.

Run as a program, it takes a list of [number of processes, words] as JSON, and runs one after another. The first word is
a command of `python -m cnnbench`, or the path of a script.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATIENCE = 10.0  # seconds for the other processes, once one has failed
LIMIT = 900  # seconds for all commands, also on a day when the machine is slow


def run_forked(*commands: tuple[int, Sequence[Any]], timeout: float = LIMIT) -> str:
    """Run each command or script in its number of processes; return what they printed.

    Raises:
        AssertionError: One failed.
        TimeoutExpired: They wait for each other.
    """
    words = json.dumps([[processes, list(map(str, command))] for processes, command in commands])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, __file__, words]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        program, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True
    ) as running:
        try:
            out, err = running.communicate(timeout=timeout)
        except BaseException:
            os.killpg(running.pid, signal.SIGKILL)  # the processes too
            raise
    assert running.returncode == 0, (out + err)[-4000:]
    return out


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run_one(processes: int, words: list[str]) -> bool:
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    shared |= {"LOCAL_WORLD_SIZE": str(processes), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": str(time.time_ns())}
    children = {_child(rank, shared, words) for rank in range(processes)}
    failed_at, parent = None, os.getppid()
    while children:
        for child in list(children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                children.remove(child)
                failed_at = failed_at or (status and time.monotonic())
        if os.getppid() != parent or (failed_at and time.monotonic() - failed_at > PATIENCE):
            for child in children:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
    return not failed_at


def _child(rank: int, shared: dict[str, str], words: list[str]) -> int:
    sys.stdout.flush()
    if child := os.fork():
        return child
    from lightning.pytorch.utilities import rank_zero_only

    from cnnbench.cli.main import main

    if int(shared["WORLD_SIZE"]) > 1:
        os.environ |= shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        rank_zero_only.rank = rank  # as if Lightning were imported only now
    if words[0].endswith(".py"):
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
        code = 0
    else:
        code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import cnnbench.cli.fit
    import cnnbench.cli.predict
    import cnnbench.cli.test
    import cnnbench.cli.validate  # noqa: F401

    sys.exit(0 if all(_run_one(*command) for command in json.loads(sys.argv[1])) else 1)
