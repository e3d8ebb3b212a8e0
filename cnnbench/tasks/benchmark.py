"""What Lightning and our task add to a step of a loop written by hand: LeNet-5, batches of 64, with logging.

    python -m cnnbench.tasks.benchmark

Both train the same network on the same batches of the same data module, on one core. The task runs under the
Trainer with everything that `fit` attaches: metrics, `metrics.csv` every 50 steps, the progress of `fit`. The
loop does forward, loss, backward and update, and reads the loss every 50 steps. Each pair is timed in random
order, in processor time; the median difference a step is printed with its bootstrap 95 % interval, and beside it
that of the loop against itself: the resolution of this machine.
"""

import argparse
import logging
import random
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from cnnbench.callbacks.progress import RunProgress
from cnnbench.data import MNISTDataModule
from cnnbench.data.benchmark import interval
from cnnbench.data.memory import MemoryDataset
from cnnbench.tasks.classification import ClassificationTask
from cnnbench.tasks.optim import OptimConfig, create_optimizer, create_scheduler

LOG_EVERY = 50


class _Clock(Callback):
    """Measures the processor time from the first step to the last."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.process_time() - self.start


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


def under_lightning(data: _RandomImages, steps: int) -> float:
    """Return the seconds of `steps` steps by our task under the Trainer."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as directory:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_val_batches=0,
            log_every_n_steps=LOG_EVERY,
            logger=CSVLogger(directory, name="", version=""),
            callbacks=[clock, _silent(RunProgress())],
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(_task(), data)
    return clock.seconds


def by_hand(data: _RandomImages, steps: int) -> float:
    """Return the seconds of the same steps in a loop written by hand."""
    task = _task()
    network = task.network.train()
    optimizer = create_optimizer(network, task.optim)
    scheduler = create_scheduler(optimizer, task.optim, steps, steps)
    log, loader = [], data.train_dataloader()
    start = time.process_time()
    for step, batch in enumerate(loader, start=1):
        batch = data.on_after_batch_transfer(batch, 0)
        loss = F.cross_entropy(network(batch["image"]), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step_update(step)
        if step % LOG_EVERY == 0:
            log.append(loss.item())
    return time.process_time() - start


def differences(
    one: Callable[..., float], other: Callable[..., float], data: _RandomImages, steps: int, pairs: int
) -> np.ndarray:
    """Return for each pair how many milliseconds a step `one` takes longer than `other`."""
    seconds = np.empty((pairs, 2))
    for pair in seconds:
        for side in random.sample((0, 1), 2):
            pair[side] = (one, other)[side](data, steps)
    return 1000 * (seconds[:, 0] - seconds[:, 1]) / steps


def _silent(progress: RunProgress) -> RunProgress:
    progress.console.quiet = True
    return progress


def main() -> None:
    """Time, and print what was measured and where."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="steps of each side of a pair (default: 300)")
    parser.add_argument("--batch-size", type=int, default=64, help="images a batch (default: 64)")
    parser.add_argument("--pairs", type=int, default=15, help="how often each side runs (default: 15)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    data = _RandomImages(args.steps, args.batch_size)
    differences(under_lightning, by_hand, data, args.steps, 1)  # warms up
    print(f"torch {torch.__version__}, 1 thread, LeNet-5, {args.steps} steps of {args.batch_size} images")
    for name, one in (("Lightning and our task", under_lightning), ("the loop again (control)", by_hand)):
        added = differences(one, by_hand, data, args.steps, args.pairs)
        low, high = interval(added)
        print(f"{name}: {np.median(added):+.3f} ms a step over the loop [{low:+.3f}, {high:+.3f}]")


if __name__ == "__main__":
    main()
