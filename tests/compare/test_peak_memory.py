"""Peak memory of a training step, in processes of their own."""

import io
import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_all_start_methods, get_context

import pytest
import torch
from torch import nn

from cnnbench.compare.apart import PRELOADED
from cnnbench.compare.memory import measure_memory
from cnnbench.compare.memory_processes import keep_spares
from cnnbench.compare.settings import Settings
from cnnbench.compare.sides import Side, side
from cnnbench.errors import UserError

IMAGE = (3, 64, 64)
SETTINGS = Settings(batch_size=8, threads=1)
MIB = 2**20


class Wide(nn.Sequential):
    """ReLUs in a row, each of which keeps what it puts out: 8 x 3 x 64 x 64 x 4 bytes."""

    def __init__(self, depth):
        super().__init__(nn.Conv2d(3, 3, 1), *[nn.ReLU() for _ in range(depth)])


def wide_60():
    return Wide(60)


def wide_120():
    return Wide(120)


class Limited(Wide):
    """Killed, as by the kernel, with over 2 images."""

    def __init__(self):
        super().__init__(1)

    def forward(self, x):
        if len(x) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


class Crashes(Wide):
    def __init__(self):
        super().__init__(1)

    def forward(self, x):
        print("not for the parent's output")
        os._exit(3)


def with_spares(one, other, settings):
    """Measure by processes that were forked early on; return the result, and what was logged."""
    keep_spares(2)
    logged = io.StringIO()
    logging.getLogger("cnnbench").addHandler(logging.StreamHandler(logged))
    return measure_memory(one, other, IMAGE, settings), logged.getvalue()


@pytest.fixture(scope="module")
def clean_process():
    """A function that calls another in a process that has computed nothing, as that of a pair is at first."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        yield lambda function, *args: pool.submit(function, *args).result()


@pytest.mark.skipif("forkserver" not in get_all_start_methods(), reason="nothing is forked here")
def test_spare_processes_measure_activations(clean_process):
    memory, _ = clean_process(with_spares, Side("wide", wide_60), Side("wider", wide_120), SETTINGS)
    assert memory.theirs - memory.ours == pytest.approx(60 * 8 * 3 * 64 * 64 * 4, rel=0.1)


@pytest.mark.slow
def test_new_processes_measure_activations():
    memory = measure_memory(Side("wide", wide_60), Side("wider", wide_120), IMAGE, SETTINGS)
    activation = 8 * 3 * 64 * 64 * 4
    assert memory.theirs - memory.ours == pytest.approx(60 * activation, rel=0.1)
    assert (memory.batch_size, memory.image_size) == (8, IMAGE[-1])


@pytest.mark.slow
def test_weights_gradients_and_momentum_count():
    linear = side("alexnet")  # three quarters of its memory are weights
    weights = 4 * sum(parameter.numel() for parameter in linear.build().parameters())
    memory = measure_memory(linear, linear, (3, 224, 224), Settings(batch_size=1, threads=1))
    assert 3 * weights < memory.ours < 3.5 * weights
    assert memory.ratio == pytest.approx(1, abs=0.02)


@pytest.mark.skipif("forkserver" not in get_all_start_methods(), reason="nothing is forked here")
def test_a_kill_is_a_lack_of_memory(clean_process):
    """The first is of a spare process, and new ones measure then."""
    settings = replace(SETTINGS, batch_size=4)
    memory, logged = clean_process(with_spares, Side("limited", Limited), Side("wide", wide_60), settings)
    assert memory.batch_size == 2
    assert "there is not enough memory to run limited on 4 images at a time: trying 2" in logged


def test_a_crash_is_told(capfd):
    with pytest.raises(UserError, match="crashes ended its process with exit code 3: it said nothing"):
        measure_memory(Side("crashes", Crashes), Side("wide", wide_60), IMAGE, SETTINGS)
    assert capfd.readouterr().out == ""


def test_what_cannot_be_sent_is_told():
    with pytest.raises(UserError, match=r"local cannot be sent to another process.*top level of a module"):
        measure_memory(Side("local", lambda: Wide(1)), Side("wide", wide_60), IMAGE, SETTINGS)


@pytest.mark.slow
def test_a_script_without_a_guard(tmp_path):
    """What is named needs no `if __name__ == "__main__"`; what the script itself defines is told to be moved."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import torch
from cnnbench.compare.memory import measure_memory
from cnnbench.compare.settings import Settings
from cnnbench.compare.sides import Side, side
from cnnbench.errors import UserError

class Own(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Conv2d(1, 2, 3))

lenet, settings = side("lenet5"), Settings(batch_size=2, threads=1)
print(measure_memory(lenet, lenet, (1, 32, 32), settings).batch_size)
try:
    measure_memory(Side("own", Own), lenet, (1, 32, 32), settings)
except UserError as error:
    print(error)
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    number, told = done.stdout.splitlines()
    assert number == "2" and "define it in a module, not in the script" in told


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_the_allocator_is_asked_on_cuda():
    settings = Settings(batch_size=8, device="cuda")
    memory = measure_memory(Side("wide", wide_60), Side("wider", lambda: Wide(120)), IMAGE, settings)
    assert memory.theirs - memory.ours == pytest.approx(60 * 8 * 3 * 64 * 64 * 4, rel=0.02)
