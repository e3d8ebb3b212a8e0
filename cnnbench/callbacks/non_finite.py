"""Training ends where its loss has become NaN or infinite, and the checkpoints from before it stay."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from cnnbench.data import checks
from cnnbench.errors import UserError
from cnnbench.tasks.sharding import local

_LOOK = 50  # batches, at most, until the losses are looked at: reading them waits for the device


class _Batch(NamedTuple):
    step: int  # as `metrics.csv` counts
    lr: float
    loss: Tensor
    index: Tensor  # (B,)


class StopOnNonFinite(Callback):
    """Stops training when the loss has been NaN or infinite for some batches in a row.

    `fit` has one of these unless the recipe names its own. The losses are read as often as they are logged, at least
    every 50 batches, and not in between: training may go on for that long after the batch that is named. A bad loss
    that stays alone passes, since in half precision its step is left out; but weights that are not finite stop
    training at once where they would be saved, so that every checkpoint is a good one.

    Args:
        patience: How many batches in a row; at least 1.

    Raises:
        UserError: `patience` is out of range.
    """

    def __init__(self, patience: int = 5) -> None:
        checks.at_least("patience of StopOnNonFinite", patience, 1)
        self.patience = patience
        self._unread: list[_Batch] = []
        self._bad: list[_Batch] = []  # the last ones read, while they are not finite
        self._last: _Batch | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note step and learning rate of the first batch; a run resumed within an epoch does not start that again."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the learning rate, which the schedule has set by now."""
        self._every = min(trainer.log_every_n_steps or _LOOK, _LOOK)
        self._rated = trainer.optimizers[0].param_groups[0]
        self._step, self._lr = trainer.global_step, self._rated["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss on its device, and read those that have gathered if it is time.

        Raises:
            UserError: Too many in a row are not finite.
        """
        self._unread.append(_Batch(self._step, self._lr, outputs["loss"], batch["index"]))
        self._step, self._lr = trainer.global_step, self._rated["lr"]  # of the next batch
        if len(self._unread) >= self._every:
            self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the losses that have gathered.

        Raises:
            UserError: Too many in a row are not finite.
        """
        self._look(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse to save weights that are not finite.

        Raises:
            UserError: They are not, or too many losses in a row.
        """
        self._look(trainer)
        if self._last is not None:
            since = f", nor is the loss since step {self._bad[0].step}" if self._bad else ""
            what = f"the weights are not finite after step {self._last.step}{since}"
            self._stop_if(not _is_finite(pl_module), what, trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget this run."""
        self._unread, self._bad, self._last = [], [], None

    def _look(self, trainer: Trainer) -> None:
        if not self._unread:
            return
        losses = torch.stack([batch.loss for batch in self._unread]).tolist()
        for batch, loss in zip(self._unread, losses, strict=True):
            if len(self._bad) < self.patience:
                self._bad = [] if math.isfinite(loss) else [*self._bad, batch]
        self._last, self._unread = self._unread[-1], []
        first = self._bad[0].step if self._bad else 0
        what = f"the loss is not finite since step {first}, for {self.patience} batches in a row"
        self._stop_if(len(self._bad) >= self.patience, what, trainer)

    def _stop_if(self, bad: bool, what: str, trainer: Trainer) -> None:
        """Raise in all processes what the first one says in which it is so."""
        if not trainer.strategy.reduce_boolean_decision(bad, all=False):
            return
        messages = [self._message(what, trainer) if bad else ""]
        if trainer.world_size > 1:
            messages *= trainer.world_size
            torch.distributed.all_gather_object(messages, messages[trainer.global_rank])
        raise UserError(next(filter(None, messages)))

    def _message(self, what: str, trainer: Trainer) -> str:
        batch = self._bad[-1] if self._bad else self._last
        norm = trainer.callback_metrics.get("train/grad_norm", torch.tensor(torch.nan))
        images = ", ".join(map(str, batch.index.tolist()))
        return (
            f"{what}: {_kept(trainer)}; learning rate {batch.lr:g}, gradient norm when last logged {norm:g}; "
            f"the batch of step {batch.step} holds the training images {images}"
        )


def _is_finite(module: nn.Module) -> bool:
    """Return whether all weights in this process are finite and no buffer is NaN, in one wait for the device."""
    flags = [local(weight).isfinite().all() for weight in module.parameters()]
    flags += [~buffer.isnan().any() for buffer in module.buffers()]
    return bool(torch.stack(flags).all())


def _kept(trainer: Trainer) -> str:
    """Return what the newest checkpoint is; none is of weights that are not finite."""
    folders = {callback.dirpath for callback in trainer.checkpoint_callbacks if getattr(callback, "dirpath", None)}
    files = [file for folder in folders for file in Path(folder).glob("*.ckpt")]
    if not files:
        return "there is no checkpoint from before it"
    return f"the checkpoint from before it is {max(files, key=lambda file: file.stat().st_mtime)}"
