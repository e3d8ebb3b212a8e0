"""How every task is optimised: optimiser, per-step schedule, clipping, and the random state of each step."""

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.optim.lr_scheduler import LRScheduler

from cnnbench.errors import UserError
from cnnbench.tasks.clipping import clip
from cnnbench.tasks.optim import OptimConfig, create_optimizer, create_scheduler, scale_learning_rates
from cnnbench.tasks.sharding import whole
from cnnbench.tasks.steps import check_whole_steps, images_per_step

SEEDS_AT_A_TIME = 64  # steps


class Optimized(LightningModule):
    """A network under one `optim` block.

    Attributes:
        network: The network, once it is built.
        optim: Optimiser and schedule.
        learning_rate: The peak rate of the run, which `optim.base_batch_size` scales; known once training begins.
        learning_rates: Returns the factor of the learning rate of each parameter, by its name in the network, which it
            is called with; None: 1 for all.
    """

    network: nn.Module | None
    optim: OptimConfig
    learning_rates: Callable[[nn.Module], Mapping[str, float]] | None = None

    def configure_optimizers(self) -> dict[str, Any]:
        """Create optimiser and per-step schedule from the `optim` block; let the run log at least once an epoch.

        Raises:
            UserError: The run has no end, an epoch is no whole number of steps, or clipping is asked for twice.
        """
        self.trainer.fit_loop.setup_data()  # before its batches are counted, also where max_steps alone ends the run
        check_whole_steps(self.trainer)
        if self.optim.clip_grad is not None and self.trainer.gradient_clip_val is not None:
            raise UserError("optim.clip_grad and trainer.gradient_clip_val both clip: leave one of them out")
        optim = self.optim if self.optim.base_batch_size is None else self.optim.scaled(images_per_step(self.trainer))
        optimizer = create_optimizer(self.network, optim)
        if self.learning_rates is not None:
            scale_learning_rates(optimizer, self.network, self.learning_rates(self.network))
        self.learning_rate = optim.lr
        updates = self.trainer.estimated_stepping_batches
        if updates == float("inf"):
            raise UserError("trainer.max_epochs and trainer.max_steps are both unlimited: the schedule needs an end")
        steps = self.trainer.num_training_batches // self.trainer.accumulate_grad_batches
        self.trainer.log_every_n_steps = min(self.trainer.log_every_n_steps, steps)
        scheduler = create_scheduler(optimizer, optim, int(updates), steps)
        if scheduler is None:
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Scheduler | LRScheduler, metric: Any | None) -> None:
        """Set the learning rate of the next step; timm's schedules count updates, the finder's does not."""
        if isinstance(scheduler, Scheduler):
            scheduler.step_update(num_updates=self.trainer.global_step)
        else:
            super().lr_scheduler_step(scheduler, metric)

    def on_train_start(self) -> None:
        """Set the learning rate of the first step, which in a resumed run is not the schedule's first."""
        self._seed, self._rank = int(os.environ.get("PL_GLOBAL_SEED", 0)), self.global_rank
        if isinstance(scheduler := self.lr_schedulers(), Scheduler):
            self.lr_scheduler_step(scheduler, None)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout, drop path and mixing from (seed, step, rank): no step depends on another's draws.

        Two networks trained with one seed then draw the same numbers, and so does a resumed run.
        """
        step = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready - 1
        block, place = divmod(step, SEEDS_AT_A_TIME)
        seed = _step_seeds(self._seed, block, self._rank)[place]
        # torch.manual_seed takes a hundred times as long: it notes the seed for each kind of device, present or not
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the learning rate and the norm of the gradient before it is clipped."""
        if self.is_logging_step:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            self.log("train/grad_norm", whole(torch.nn.utils.get_total_norm(gradients)))
            self.log("train/lr", max(group["lr"] for group in optimizer.param_groups))

    def on_validation_epoch_start(self) -> None:
        """Let all processes evaluate with the statistics of the first, which are saved; DDP does so by itself."""
        if isinstance(self.network, FSDPModule):
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by `optim.clip_grad`, or by the Trainer's own setting where that is given."""
        if gradient_clip_val is not None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif self.optim.clip_grad is not None:
            clip(self, self.network, optimizer, self.optim.clip_grad, self.optim.clip_mode)

    @property
    def is_logging_step(self) -> bool:
        """Whether loggers take the values of the running training step."""
        trainer = self.trainer
        every = trainer.log_every_n_steps  # 0: never
        return every > 0 and (trainer.global_step + 1) % every == 0


@lru_cache(maxsize=1)
def _step_seeds(seed: int, block: int, rank: int) -> tuple[int, ...]:
    """Return the seeds of a block of steps; one at a time, between steps, each takes ten times as long."""
    steps = range(block * SEEDS_AT_A_TIME, (block + 1) * SEEDS_AT_A_TIME)
    parts = np.array([(seed, step, rank) for step in steps], np.uint32)  # of which numpy makes no array again
    sequences = map(np.random.SeedSequence, parts)
    return tuple(int(sequence.generate_state(1, np.uint64)[0]) for sequence in sequences)
