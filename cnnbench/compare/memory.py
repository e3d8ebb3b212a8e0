"""How much memory a training step takes.

On CUDA the allocator knows. A CPU has nobody to ask but the kernel, and what a process holds depends on all that it did
before: so each side gets a process of its own, and what is reported is the largest resident set (VmHWM) of two steps,
the second with the optimiser's state in place, less what was resident before the network was built.
"""

import gc
import pickle
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnbench.compare.memory_processes import measuring_process
from cnnbench.compare.result import Memory
from cnnbench.compare.settings import Settings
from cnnbench.compare.sides import Side
from cnnbench.compare.workload import (
    Workload,
    build_seeded,
    random_images,
    threads,
    with_enough_memory,
)
from cnnbench.errors import UserError, first_line

STEPS = 2
PROC = Path("/proc/self")
Size = tuple[int, int, int]


def measure_memory(ours: Side, theirs: Side, size: Size, settings: Settings) -> Memory:
    """Measure the peak memory of a training step on each side: weights, gradients, optimiser and activations.

    Where it is not enough, also where the kernel kills the process for it, both sides get half as many images at a
    time: the result has their number, and a warning is logged. With `compile` on a CPU the compiler's memory counts
    too.

    Args:
        ours: One network; on a CPU its `make` must be importable in another process.
        theirs: The other.
        size: Channels, height and width of the images.
        settings: Of which device, precision, channels_last, compile, batch_size, threads and seed count.

    Raises:
        UserError: A side cannot be built, run, or sent to another process; a single image is too many; or the device
            does not tell.
    """
    device = torch.device(settings.device)
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"peak memory is known on cpu and cuda, not on {device.type}")
    measure = _on_cuda if device.type == "cuda" else _in_other_processes

    def both(batch_size: int) -> list[int]:
        return measure((ours, theirs), size, replace(settings, batch_size=batch_size))

    (of_ours, of_theirs), batch_size = with_enough_memory(settings.batch_size, both)
    return Memory(of_ours, of_theirs, batch_size, size[-1])


def _on_cuda(sides: Sequence[Side], size: Size, settings: Settings) -> list[int]:
    return [_allocated(side, size, settings) for side in sides]


def _allocated(side: Side, size: Size, settings: Settings) -> int:
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(settings.device)
    torch.cuda.reset_peak_memory_stats(settings.device)
    _train(side, size, settings)
    return torch.cuda.max_memory_allocated(settings.device) - before


def _train(side: Side, size: Size, settings: Settings) -> None:
    workload = Workload(side.label, build_seeded(side, settings), random_images(size, settings), settings)
    if workload.optimizer is None:
        raise UserError(f"{side.label} has nothing to train")
    for _ in range(STEPS):
        workload.try_once("train_step")


def _in_other_processes(sides: Sequence[Side], size: Size, settings: Settings) -> list[int]:
    """Measure one after the other; both start at once, since they import for longer than most of them measure."""
    settings = replace(settings, threads=settings.threads or torch.get_num_threads())
    jobs = [_job(side, size, settings) for side in sides]
    with ExitStack() as stack:
        named = zip(sides, jobs, strict=True)
        processes = [stack.enter_context(measuring_process(side.label, job)) for side, job in named]
        return [process.measured(settings.batch_size) for process in processes]


def _job(side: Side, size: Size, settings: Settings) -> bytes:
    try:
        return pickle.dumps((side, size, settings))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _unsendable(side, error) from error


def _unsendable(side: Side, error: Exception) -> UserError:
    return UserError(
        f"{side.label} cannot be sent to another process to measure its memory: {first_line(error)}; "
        "define it at the top level of a module, and name it package.module:callable"
    )


def answer(file: Any, path: str | Path) -> None:
    """Measure in this process, for another one.

    Args:
        file: To read the side, the image size and the settings from.
        path: Where to write the bytes, or the `UserError`.
    """
    try:
        received = _received(file)
        found: int | UserError = _measured(*received)
    except UserError as error:
        found = error
    Path(path).write_bytes(pickle.dumps(found))


def _received(file: Any) -> tuple[Side, Size, Settings]:
    try:
        return pickle.load(file)
    except (AttributeError, ImportError) as error:
        raise UserError(
            f"a network cannot be sent to another process to measure its memory: {first_line(error)}; "
            "define it in a module, not in the script that compares it"
        ) from error


def _measured(side: Side, size: Size, settings: Settings) -> int:
    with threads(settings.threads):
        _load_kernels(settings)
        gc.collect()
        if PROC.exists():
            (PROC / "clear_refs").write_text("5")  # the peak so far is forgotten
        before = _peak()
        _train(side, size, settings)
        return max(_peak() - before, PAGESIZE)  # less cannot be seen


def _load_kernels(settings: Settings) -> None:
    """Train a small network: what torch loads at its first step is not the measured network's."""
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    _train(Side("a small network", lambda: nn.Sequential(*layers)), (3, 32, 32), replace(settings, batch_size=2))


def _peak() -> int:
    """Return the largest resident set of this process so far, in bytes."""
    if PROC.exists():
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", (PROC / "status").read_text())[1])
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
