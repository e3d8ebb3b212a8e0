"""What Lightning and our task add to a step of a loop written by hand: LeNet-5, batches of 64, with logging.

    python -m cnnbench.tasks.benchmark

Both train the same network on the same batches of the same data module, on one core. The task runs under the
Trainer with everything that `fit` attaches: metrics, `metrics.csv` every 50 steps, progress, checkpoints, the watch
over losses that are not finite. The loop does forward, loss, backward and update, and reads the loss every 50 steps.
The two take turns of 5 steps, so that whatever else the machine does meets both; they are timed in processor time,
and ten turns, in which both have logged once, are one measurement. The median difference a step is printed with its
bootstrap 95 % interval, and as a share of the loop's step; beside it that of a LightningModule which does nothing but
the loop's own work, in Lightning's own loop in place of `fit`'s lean one, and that of the loop against itself: the
resolution of this machine.
"""

import argparse
import copy
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer

from cnnbench.callbacks.checkpoint import BestCheckpoint
from cnnbench.callbacks.checkpoint_files import LAST
from cnnbench.callbacks.last_checkpoint import LastCheckpoint
from cnnbench.callbacks.metrics_file import MetricsFile
from cnnbench.callbacks.non_finite import StopOnNonFinite
from cnnbench.callbacks.progress import RunProgress
from cnnbench.data import MNISTDataModule
from cnnbench.data.memory import MemoryDataset
from cnnbench.statistics import median_interval
from cnnbench.tasks.classification import ClassificationTask
from cnnbench.tasks.lean_loop import use_lean_loop
from cnnbench.tasks.optim import OptimConfig, create_optimizer, create_scheduler

TURN = 5  # steps
LOGGING = 50  # steps after which both log: of these is a measurement


class _TakeTurns(Callback):
    """Times the Trainer's turns, and lets the loop have its own after each."""

    def __init__(self, loop: Iterator[float]) -> None:
        self.loop = loop
        self.turns: list[tuple[float, float]] = []  # seconds of the Trainer's and of the loop's

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.process_time()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        if trainer.global_step % TURN == 0:
            self.turns.append((time.process_time() - self.start, next(self.loop)))
            self.start = time.process_time()


class _RandomImages(MNISTDataModule):
    """Random images of MNIST's size, enough for one epoch of `steps` batches."""

    def __init__(self, steps: int, batch_size: int) -> None:
        super().__init__(batch_size=batch_size, download=False)
        images = torch.randint(0, 256, (steps * batch_size, 1, 32, 32), dtype=torch.uint8)
        self.datasets["train"] = MemoryDataset(images, torch.randint(0, 10, (len(images),)))

    def prepare_data(self) -> None:
        """Download nothing."""

    def setup(self, stage: str = "fit") -> None:
        """Read nothing."""


def _task() -> ClassificationTask:
    return ClassificationTask("lenet5", num_classes=10, in_chans=1, optim=OptimConfig(optimizer="sgd", lr=0.01))


class _BareModule(LightningModule):
    """The loop's own work as a LightningModule."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.optim = _task().network, OptimConfig(optimizer="sgd", lr=0.01, sched="none")

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = F.cross_entropy(self.network(batch["image"]), batch["label"])
        if self.trainer.global_step % LOGGING == LOGGING - 1:
            self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return create_optimizer(self.network, self.optim)


def ours(data: _RandomImages, steps: int) -> np.ndarray:
    """Return the milliseconds a step of our task under the Trainer, and of the loop: a row a measurement."""
    with tempfile.TemporaryDirectory() as directory:
        task, checkpoints = _task(), Path(directory, "checkpoints")
        saves = BestCheckpoint(checkpoints, task.monitor, task.monitor_mode), LastCheckpoint(checkpoints / LAST)
        callbacks = _silent(RunProgress()), StopOnNonFinite(), *saves
        return _under_lightning(task, data, steps, *callbacks, prepare=use_lean_loop)


def bare(data: _RandomImages, steps: int) -> np.ndarray:
    """Return those of a LightningModule that does the loop's work alone, and of the loop."""
    return _under_lightning(_BareModule(), data, steps)


def _under_lightning(
    module: LightningModule,
    data: _RandomImages,
    steps: int,
    *callbacks: Callback,
    prepare: Callable[[Trainer], None] | None = None,
) -> np.ndarray:
    turns = _TakeTurns(by_hand(copy.copy(data), steps))  # whose data are not told how far the Trainer is
    with tempfile.TemporaryDirectory() as directory:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_val_batches=0,
            log_every_n_steps=LOGGING,
            logger=MetricsFile(Path(directory)),
            callbacks=[*callbacks, turns],
            enable_progress_bar=bool(callbacks),
            enable_checkpointing=bool(callbacks),
            enable_model_summary=False,
        )
        if prepare is not None:
            prepare(trainer)
        trainer.fit(module, data)
    return _measurements(turns.turns)


def control(data: _RandomImages, steps: int) -> np.ndarray:
    """Return those of the loop, and of a second one of its kind."""
    return _measurements(list(zip(by_hand(data, steps), by_hand(data, steps), strict=True)))


def _measurements(turns: list[tuple[float, float]]) -> np.ndarray:
    """Return milliseconds a step (measurements, 2) of the seconds of the turns, without the first, which warms up."""
    return 1000 * np.array(turns).reshape(-1, LOGGING // TURN, 2).sum(axis=1)[1:] / LOGGING


def by_hand(data: _RandomImages, steps: int) -> Iterator[float]:
    """Train by a loop written by hand; yield the seconds of each turn."""
    task = _task()
    network = task.network.train()
    optimizer = create_optimizer(network, task.optim)
    scheduler = create_scheduler(optimizer, task.optim, steps, steps)
    log = []
    start = time.process_time()
    for step, batch in enumerate(data.train_dataloader(), start=1):
        batch = data.on_after_batch_transfer(batch, 0)
        loss = F.cross_entropy(network(batch["image"]), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step_update(step)
        if step % LOGGING == 0:
            log.append(loss.item())
        if step % TURN == 0:
            yield time.process_time() - start
            start = time.process_time()


def _silent(progress: RunProgress) -> RunProgress:
    progress.console.quiet = True
    return progress


def main() -> None:
    """Time, and print what was measured and where."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    of_steps = f"measurements, of {LOGGING} steps each (default: 40)"
    parser.add_argument("--measurements", type=int, default=40, help=of_steps)
    parser.add_argument("--batch-size", type=int, default=64, help="images a batch (default: 64)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    steps = (args.measurements + 1) * LOGGING  # the first warms up
    data = _RandomImages(steps, args.batch_size)
    what = f"{args.measurements} x {LOGGING} steps of {args.batch_size} images"
    print(f"torch {torch.__version__}, 1 thread, LeNet-5, {what}")
    for name, measure in {
        "our task under Lightning": ours,
        "a bare module": bare,
        "the loop (control)": control,
    }.items():
        theirs, loop = measure(data, steps).T
        added, (low, high) = np.median(theirs - loop), median_interval(theirs - loop)
        share = f"{added / np.median(loop):+.1%} of its {np.median(loop):.2f} ms"
        print(f"{name}: {added:+.3f} ms a step over the loop [{low:+.3f}, {high:+.3f}], {share}")


if __name__ == "__main__":
    main()
