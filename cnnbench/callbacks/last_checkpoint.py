"""`last.ckpt`: where a run goes on after it was killed, exactly as if it had not been."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException

from cnnbench.callbacks.loop_state import settle
from cnnbench.callbacks.metrics_file import MetricsFile
from cnnbench.errors import UserError

AGREE_EVERY = 10  # steps, between which several processes do not ask each other whether to save

_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Interval:
    """How often a run is saved within an epoch, in steps or in seconds; neither: never."""

    steps: float = float("inf")
    seconds: float = float("inf")

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Read a number of steps, such as `500`, a time, such as `30s`, `10m` or `2h`, or `never`.

        Raises:
            UserError: It is none of these.
        """
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
        if text.strip() == "never":
            return cls()
        if found is None or float(found[1]) == 0 or (not found[2] and "." in found[1]):
            raise UserError(f"checkpoint_every is {text!r}, but must be steps (500), a time (30s, 10m, 2h) or never")
        if found[2]:
            return cls(seconds=float(found[1]) * _SECONDS[found[2]])
        return cls(steps=int(found[1]))


class LastCheckpoint(Checkpoint):
    """Saves after every validation, after every epoch without one, at an interval, at the end, on SIGTERM and Ctrl-C.

    A run that goes on from the file does what it would have done, to the last bit: a save falls between two updates,
    when all that was computed before it has been logged. SIGTERM is answered after the running update, or the running
    batch of a validation, with a save and an end; several processes agree on it every ten steps, and finish a
    validation first. Where SLURM says that a job's time is up, Lightning's own save, and the return into the queue,
    fall between two updates too. The first Ctrl-C of a run in one process is answered as SIGTERM is, the second one
    ends it where it is; one of several processes is ended there by the first. Lightning's `save_last` writes only where
    a best checkpoint is written.

    Args:
        path: File to write.
        every: How often within an epoch.

    Attributes:
        saved_step: Updates that the newest file has seen; 0 before training begins.
    """

    def __init__(self, path: Path, every: Interval | None = None) -> None:
        self.path = path
        self.every = every or Interval()
        self.saved_step, self._saved_time = 0, 0.0
        self._terminated = self._interrupted = self._time_is_up = False
        self._requeue: Callable[..., Any] | None = None
        self._should_stop = False
        self._resumed = False
        self._ended = 0  # how often training has come to its end, and was prolonged

    # ------------------------------------------------------------------ when

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to SIGTERM and Ctrl-C in place of Lightning, which would end within an update; start the clock."""
        self.saved_step, self._saved_time = trainer.global_step, time.monotonic()
        trainer.should_stop = self._should_stop
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)  # Lightning restores the former ones at the end
            if trainer.world_size == 1:
                signal.signal(signal.SIGINT, self._on_interrupt)
            if SLURMEnvironment.detect() and callable(requeue := signal.getsignal(signal.SIGUSR1)):
                self._requeue = requeue
                signal.signal(signal.SIGUSR1, self._on_time_up)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after an epoch that no validation has ended."""
        self._save_what_is_new(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save before the batch if it is time, or the run is to end."""
        if batch_idx % trainer.accumulate_grad_batches:
            return  # the gradients that wait for their update are in no checkpoint
        if self._resumed:
            # Lightning counts an update twice where it skips a validation that the saved run had done
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
            self._resumed = False
        ends, is_requeued, is_due = self._wishes(trainer)
        if is_requeued:
            self._time_is_up = False
            self._requeue(signal.SIGUSR1, None)
        if ends or is_due:
            self._save_what_is_new(trainer)
        if ends:
            raise self._end()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """End within a validation, which the resumed run begins anew."""
        if not self._terminated or trainer.world_size > 1 or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        for callback in trainer.callbacks:
            if isinstance(callback, WeightAveraging):
                callback.on_validation_epoch_end(trainer, pl_module)  # gives the weights in training back
        self._save(trainer)
        raise self._end()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save that training has ended; not where Lightning's averaging has overwritten the weights in training."""
        self._ended += 1
        averaged = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)
        self._save_what_is_new(trainer) if averaged else self._save(trainer)

    def _on_sigterm(self, *args: Any) -> None:
        self._terminated = True

    def _on_interrupt(self, *args: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(2, b"\ncnnbench: saving; Ctrl-C again ends at once\n")  # print might be at work just now
        self._terminated = self._interrupted = True

    def _end(self) -> BaseException:
        return KeyboardInterrupt() if self._interrupted else SIGTERMException()

    def _on_time_up(self, *args: Any) -> None:
        self._time_is_up = True

    def _wishes(self, trainer: Trainer) -> tuple[bool, bool, bool]:
        """Return whether the run ends, its job is queued again, and it is time to save, the same in all processes."""
        is_due = trainer.global_step - self.saved_step >= self.every.steps
        is_due |= time.monotonic() - self._saved_time >= self.every.seconds
        wishes = (self._terminated, self._time_is_up, is_due)
        if trainer.world_size == 1:
            return wishes
        anyone = trainer.strategy.reduce_boolean_decision
        if trainer.global_step % AGREE_EVERY or not anyone(any(wishes), all=False):
            return False, False, False
        return tuple(anyone(wish, all=False) for wish in wishes)

    # ------------------------------------------------------------------ what

    def _save_what_is_new(self, trainer: Trainer) -> None:
        if trainer.global_step != self.saved_step:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:
            trainer.save_checkpoint(self.path)
            self.saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say in a checkpoint, the best one too, where exactly the run goes on."""
        if trainer.state.fn != "fit":
            return
        settle(checkpoint["loops"]["fit_loop"], trainer.validating)
        checkpoint["run"] = {
            "world_size": trainer.world_size,
            "should_stop": trainer.should_stop,
            "ended": self._ended,
            "logged": sum(logger.logged for logger in trainer.loggers if isinstance(logger, MetricsFile)),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take what the run had come to."""
        run = checkpoint.get("run", {})
        self._resumed, self._should_stop, self._ended = True, run.get("should_stop", False), run.get("ended", 0)
