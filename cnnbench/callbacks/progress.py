"""What a person sees while a run goes on: a live bar in a terminal, and one line an epoch everywhere."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from torch import Tensor

REFRESH_SECONDS = 0.2
_FIGURES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")  # of a module that has no `epoch_figures`


class RunProgress(ProgressBar):
    """A rich progress bar with loss, accuracy, images per second and time left; one line for each epoch.

    Without a terminal only the lines are printed. The loss is read from the device when the bar is redrawn, a
    few times a second, and never in between.
    """

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(soft_wrap=True, highlight=False)
        self._bar: Progress | None = None
        self._enabled = True
        self._drawn = 0.0
        self._epoch: str | None = None
        self._resumed: float | None = None

    @property
    def is_enabled(self) -> bool:
        """Whether anything is printed; `LightningModule.print` asks."""
        return self._enabled

    def disable(self) -> None:
        """Print nothing: Lightning calls this in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        if self._enabled:
            self.console.print(*args)

    # ------------------------------------------------------------------ training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()
        self._first_batch = trainer.fit_loop.total_batch_idx + 1
        if 0 <= trainer.fit_loop.batch_idx < trainer.num_training_batches - 1:  # resumed after an epoch's start
            self._begin_epoch(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the epoch before, whose metrics are complete only now; start the bar."""
        self._print_epoch(trainer)
        self._begin_epoch(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock of the images per second where validation has stopped it."""
        self._resumed = self._resumed or time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images, and redraw if it is time."""
        self._images += batch["image"].shape[0] * trainer.world_size
        if self._bar is None or time.monotonic() - self._drawn < REFRESH_SECONDS:
            return
        running = {"loss": outputs["loss"]} if outputs else {}
        if (figures := getattr(pl_module, "running_figures", None)) is not None:
            running |= figures()
        shown = "".join(f"{name} {value:.3f}  " for name, value in running.items())
        self._draw(batch_idx + 1, f"{shown}{self._rate()}  {self._left(trainer)} left")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of the images per second; show the bar of a validation that stands alone."""
        if trainer.state.fn == "fit":
            self._stop_clock()
        else:
            self._open("validate", sum(trainer.num_val_batches))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the last epoch."""
        self._print_epoch(trainer)

    def _begin_epoch(self, trainer: Trainer) -> None:
        self._epoch = _epoch(trainer)
        self._seconds, self._images = 0.0, 0
        self._open(f"epoch {self._epoch}", trainer.num_training_batches)

    def _print_epoch(self, trainer: Trainer) -> None:
        self._stop_clock()
        self._close()
        if self._epoch is None:
            return
        shown = getattr(trainer.lightning_module, "epoch_figures", _FIGURES)
        values = {key: trainer.callback_metrics[key] for key in shown if key in trainer.callback_metrics}
        figures = "  ".join(f"{key} {_figure(value)}" for key, value in values.items())
        self.print(f"epoch {self._epoch}  {figures}  {self._rate()}  {self._left(trainer)} left")
        self._epoch = None

    # ------------------------------------------------------------------ evaluation

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar of a test."""
        self._open("test", sum(trainer.num_test_batches))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar of a prediction."""
        self._open("predict", sum(trainer.num_predict_batches))

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Move the bar of a validation that stands alone."""
        if trainer.state.fn == "validate":
            self._advance()

    def on_test_batch_end(self, *args: Any) -> None:
        """Move the bar."""
        self._advance()

    def on_predict_batch_end(self, *args: Any) -> None:
        """Move the bar."""
        self._advance()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the terminal back."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back before the error is printed."""
        self._close()

    # ------------------------------------------------------------------ the bar

    def _open(self, description: str, total: float) -> None:
        self._close()
        if not self._enabled or not self.console.is_terminal:
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20))
        self._bar = Progress(
            *columns,
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task(description, total=None if total == float("inf") else total, figures="")
        self._bar.start()

    def _draw(self, completed: int, figures: str) -> None:
        self._bar.update(self._task, completed=completed, figures=figures)
        self._drawn = time.monotonic()

    def _advance(self) -> None:
        if self._bar is not None:
            self._bar.advance(self._task)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _stop_clock(self) -> None:
        if self._resumed:
            self._seconds += time.monotonic() - self._resumed
            self._resumed = None

    def _rate(self) -> str:
        seconds = self._seconds + (time.monotonic() - self._resumed if self._resumed else 0.0)
        return f"{self._images / max(seconds, 1e-9):,.0f} images/s"

    def _left(self, trainer: Trainer) -> str:
        done = trainer.fit_loop.total_batch_idx + 1
        total = trainer.estimated_stepping_batches * trainer.accumulate_grad_batches
        if total == float("inf"):
            return "?"
        elapsed = time.monotonic() - self._started
        seconds = elapsed / max(1, done - self._first_batch) * max(0, total - done)
        return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d}"


def _figure(value: Tensor) -> str:
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.3e}"


def _epoch(trainer: Trainer) -> str:
    last = trainer.max_epochs
    return (
        f"{trainer.current_epoch + 1:>{len(str(last))}}/{last}" if last and last > 0 else f"{trainer.current_epoch + 1}"
    )
