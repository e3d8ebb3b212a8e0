"""Where the time of a training step goes: a table of its phases, and a trace of a few steps; or nothing at all."""

import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from lightning.pytorch.profilers import PassThroughProfiler, Profiler
from lightning.pytorch.utilities import rank_zero_only
from torch.profiler import record_function

_NEXT_BATCH = ".train_dataloader_next"
_REST = "the rest"  # loop, callbacks, logging, schedule
# End of Lightning's name for an action -> the phase that its time belongs to, unless an action within has its own.
_PHASES = {
    _NEXT_BATCH: "data",
    ".transfer_batch_to_device": "transfer",
    ".on_after_batch_transfer": "augmentation",  # and normalisation, on the device
    ".training_step": "forward",  # and loss
    ".backward": "backward",
    ".optimizer_step": "optimiser",
}
_NOTHING = nullcontext()


class NoProfiler(PassThroughProfiler):
    """Times nothing, and takes no time: Lightning's own makes a context for each of some 50 actions a step."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return _NOTHING


class StepProfiler(Profiler):
    """Times the phases of some training steps, then traces some more.

    The device is waited for where a phase ends, so that its time is that of its work. What would overlap on an
    accelerator does not then, and the sum is an upper bound of an undisturbed step.

    Args:
        trace: File of the trace to write, in Chrome's format: chrome://tracing and https://ui.perfetto.dev show it.
        device: Where the network is.
        warmup: Batches before anything is measured: the first ones compile, choose kernels and start workers.
        timed: Batches to time.
        traced: Batches to trace.

    Attributes:
        steps: Batches that all of it takes.
        seconds: Time of each phase over the timed batches.
    """

    def __init__(self, trace: Path, device: torch.device, warmup: int = 10, timed: int = 50, traced: int = 5) -> None:
        super().__init__()
        self.trace, self.device, self.timed = trace, device, timed
        self._timed_from, self._traced_from = warmup, warmup + timed
        self.steps = warmup + timed + traced + 1  # the last one only ends the one before
        self.seconds: Counter[str] = Counter()
        self._begun = 0  # batches
        self._mark: float | None = None  # since when the running phase runs, while phases are timed
        self._actions: list[tuple[str, record_function | None]] = []  # phases of the running ones, and their traces
        self._profile: torch.profiler.profile | None = None

    def start(self, action_name: str) -> None:
        """Begin an action, perhaps that of fetching a batch, and with it a step."""
        phase = next((phase for end, phase in _PHASES.items() if action_name.endswith(end)), None)
        if phase == "data":
            self._begin_step()
        if phase is None:
            self._actions.append((self._running, None))
            return
        self._charge()
        traced = record_function(phase) if self._profile else None
        if traced is not None:
            traced.__enter__()
        self._actions.append((phase, traced))

    def stop(self, action_name: str) -> None:
        """End the action that began last."""
        phase, traced = self._actions[-1]
        if traced is not None:
            traced.__exit__(None, None, None)
        if len(self._actions) == 1 or phase != self._actions[-2][0]:
            self._charge()
        self._actions.pop()

    def table(self) -> list[tuple[str, float, float]]:
        """Return each phase with its milliseconds a step and its share of the step, the whole step last."""
        total = self.seconds.total()
        phases = [*_PHASES.values(), _REST]
        rows = [(phase, 1000 * self.seconds[phase] / self.timed, self.seconds[phase] / total) for phase in phases]
        return [*rows, ("step", 1000 * total / self.timed, 1.0)]

    @property
    def _running(self) -> str:
        return self._actions[-1][0] if self._actions else _REST

    def _charge(self) -> None:
        """Charge the time since the last change of phase to the running one."""
        if self._mark is None:
            return
        if self.device.type != "cpu":
            torch.get_device_module(self.device).synchronize()
        now = time.perf_counter()
        self.seconds[self._running] += now - self._mark
        self._mark = now

    def _begin_step(self) -> None:
        if self._begun == self._timed_from:
            self._mark = time.perf_counter()
        elif self._begun == self._traced_from:
            self._charge()
            self._mark = None
            self._profile = torch.profiler.profile(activities=torch.profiler.supported_activities())
            self._profile.start()
        elif self._begun == self.steps - 1:
            self._profile.stop()
            if rank_zero_only.rank == 0:
                self._profile.export_chrome_trace(str(self.trace))
            self._profile = None
        self._begun += 1
