"""What every task shares: a network by name, its optimisation, seeds, checkpoints that know what they hold."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from timm.layers import to_2tuple
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim.lr_scheduler import LRScheduler

from cnnbench.errors import UserError
from cnnbench.models import check_input_size, create_model, pretrained_cfg
from cnnbench.tasks.clipping import clip
from cnnbench.tasks.optim import OptimConfig, create_optimizer, create_scheduler, scale_learning_rates
from cnnbench.tasks.record import record
from cnnbench.tasks.sharding import FullyShardedStrategy, shard, whole
from cnnbench.tasks.steps import check_whole_steps, images_per_step

SEEDS_AT_A_TIME = 64  # steps


class Task(LightningModule, ABC):
    """A network by name and source, trained by one `optim` block.

    A subclass sets `monitor` and `monitor_mode`, writes the steps, and prepares its losses and metrics in
    `configure_head`.

    Attributes:
        network: The network, once it is built.
        learning_rate: The peak rate of the run, which `optim.base_batch_size` scales; known once training begins.
        create_network: Builds it, called with `pretrained`, `weights`, `num_classes`, `in_chans` and `model_args`, and
            where there are `weights` with `class_names`; set another before training to train a network that has no
            name.
        learning_rates: Returns the factor of the learning rate of each parameter, by its name in the network, which it
            is called with; None: 1 for all.

    Args:
        name: Name of the model, as `python -m cnnbench models` lists them.
        source: Who wrote the network: `cnnbench` (ours), `timm` or `torchvision`.
        pretrained: Start from the published weights.
        weights: Start from the weights in this file instead, `.safetensors`, `.pth` or a run's checkpoint; a
            classifier for other classes starts anew.
        num_classes: Number of classes; None: the data module tells.
        in_chans: Channels of the images; None: the data module tells.
        model_args: Further arguments of the model, such as `{drop_path_rate: 0.1}`.
        optim: Optimiser and schedule; None: AdamW with cosine decay.
        compile: Compile the network with `torch.compile`.
        channels_last: Keep weights and images in channels-last memory format.
        hparams: What the subclass takes beyond this, to be kept with checkpoints.

    Raises:
        UserError: The model, its source, or one of its arguments does not exist.
    """

    monitor = "val/loss"
    monitor_mode = "min"

    def __init__(
        self,
        name: str,
        source: str = "cnnbench",
        pretrained: bool = False,
        weights: str | None = None,
        num_classes: int | None = None,
        in_chans: int | None = None,
        model_args: dict[str, Any] | None = None,
        optim: OptimConfig | None = None,
        compile: bool = False,
        channels_last: bool = False,
        **hparams: Any,
    ) -> None:
        super().__init__()
        self.pretrained_cfg = pretrained_cfg(name, source)
        self.optim = OptimConfig.of(optim)
        self.network: nn.Module | None = None
        self.create_network: Callable[..., nn.Module] = partial(create_model, name, source=source)
        self.learning_rates: Callable[[nn.Module], Mapping[str, float]] | None = None
        hparams |= {"name": name, "source": source, "model_args": dict(model_args or {})}
        hparams |= {"pretrained": pretrained, "weights": weights}
        hparams |= {"num_classes": num_classes, "in_chans": in_chans, "optim": vars(self.optim).copy()}
        self.save_hyperparameters({**hparams, "compile": compile, "channels_last": channels_last}, logger=False)
        if num_classes is not None and in_chans is not None:
            self._build_network(from_scratch=False)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; Lightning notes the running hook in one, 48 times a step, where a module's way is slow."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the network on normalised images (B, C, H, W)."""
        if self.hparams.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.network(images)

    def running_figures(self) -> dict[str, Tensor]:
        """Return what the live bar shows of the running epoch beside the loss, by name; read a few times a second."""
        return {}

    # ------------------------------------------------------------------ building

    @abstractmethod
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""

    def configure_head(self, num_classes: int) -> None:
        """Prepare what depends on the number of classes: losses and metrics."""

    def configure_model(self) -> None:
        """Build the network for the data; Lightning calls this before each run, it builds once."""
        data = self._data
        if data is not None:
            self._take_from_data("num_classes", data)
            self._take_from_data("in_chans", data)
        if self.network is None:
            self._build_network(from_scratch=bool(self.trainer.ckpt_path))
        if data is not None:
            check_input_size(self.network, self.hparams.in_chans, to_2tuple(data.image_size))
        self._own_norms = _norms_with_a_forward_of_their_own(self.network)
        if self.device_mesh is not None:
            self._shard()
        if self.hparams.compile and self.network._compiled_call_impl is None:
            self.network.compile()  # in place: the keys of the state dict stay as they are

    def _shard(self) -> None:
        strategy = self.trainer.strategy
        if not isinstance(strategy, FullyShardedStrategy):
            raise UserError(f"trainer.strategy is {type(strategy).__name__}; what divides a network here is fsdp2")
        if self.optim.clip_grad is not None and self.optim.clip_mode == "agc":  # of norms over parts of a weight
            raise UserError("optim.clip_mode agc does not go with trainer.strategy fsdp2; norm and value do")
        if not isinstance(self.network, FSDPModule):
            shard(self.network, self.device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Refuse a network that `sync_batchnorm` has made another: torch replaces what only derives from BatchNorm.

        Raises:
            UserError: It has norms that do more than normalise.
        """
        if any(isinstance(self.network.get_submodule(name), nn.SyncBatchNorm) for name in self._own_norms):
            raise UserError(f"trainer.sync_batchnorm is not for {self.hparams.name}: its norms hold the ReLUs too")

    @property
    def _data(self) -> LightningDataModule | None:
        return None if self._trainer is None else self._trainer.datamodule

    def _take_from_data(self, key: str, data: LightningDataModule) -> None:
        ours, theirs = self.hparams[key], getattr(data, key)
        if ours is not None and ours != theirs:
            raise UserError(
                f"{key} {ours} of the model contradicts {type(data).__name__}, which has {theirs}; "
                f"leave model.{key} out: the data tells it"
            )
        self.hparams[key] = theirs

    def _build_network(self, from_scratch: bool) -> None:
        hparams = self.hparams
        if hparams.num_classes is None or hparams.in_chans is None:
            raise UserError(f"{hparams.name}: give num_classes and in_chans, or a data module that tells them")
        weights = None if from_scratch else hparams.weights
        of_classes = {"class_names": getattr(self._data, "class_names", None)} if weights else {}
        self.network = self.create_network(
            pretrained=hparams.pretrained and not from_scratch,
            weights=weights,
            num_classes=hparams.num_classes,
            in_chans=hparams.in_chans,
            **of_classes,
            **hparams.model_args,
        )
        if hparams.channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.configure_head(hparams.num_classes)

    # ------------------------------------------------------------------ optimisation

    def configure_optimizers(self) -> dict[str, Any]:
        """Create optimiser and per-step schedule from the `optim` block.

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
        if isinstance(scheduler := self.lr_schedulers(), Scheduler):
            self.lr_scheduler_step(scheduler, None)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout, drop path and mixing from (seed, step, rank): no step depends on another's draws.

        Two networks trained with one seed then draw the same numbers, and so does a resumed run.
        """
        step = self.trainer.fit_loop.total_batch_idx
        block, place = divmod(step, SEEDS_AT_A_TIME)
        seed = _step_seeds(int(os.environ.get("PL_GLOBAL_SEED", 0)), block, self.global_rank)[place]
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
        every = self.trainer.log_every_n_steps  # 0: never
        return every > 0 and (self.trainer.global_step + 1) % every == 0

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what the weights belong to: version, model, class names, normalisation, data."""
        checkpoint["cnnbench"] = record(self, self._data)
        if self._data is not None:  # its arguments stand in the record, as plain values
            for key in (self._data.CHECKPOINT_HYPER_PARAMS_KEY, self._data.CHECKPOINT_HYPER_PARAMS_NAME):
                checkpoint.pop(key, None)
        checkpoint["hyper_parameters"] |= {"pretrained": False, "weights": None}  # its own take their place

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit this run, naming both sides.

        Raises:
            UserError: The checkpoint is of another model, of other classes, channels or arguments; or training is to
                go on with another optimiser or schedule.
        """
        path = "the checkpoint" if self._trainer is None else self.trainer.ckpt_path
        saved = checkpoint.get("hyper_parameters", {})
        ours, theirs = _shapes(self.state_dict()), _shapes(checkpoint["state_dict"])
        if ours != theirs:
            raise UserError(
                f"{path} holds {_describe(saved)}, this run builds {_describe(self.hparams)}: "
                f"{_first_difference(ours, theirs)}; evaluate it with the config.yaml of its own run"
            )
        self._check_class_names(checkpoint.get("cnnbench", {}).get("class_names"), path)
        if self._trainer is not None and self.trainer.state.fn == "fit":
            _check_same_optimisation(saved.get("optim", {}), self.hparams.optim, path)
            # The schedule is a function of the step alone. Its saved state would bring back the former run's length
            # and rates, and a run that is trained on would go on with a learning rate of 0.
            checkpoint["lr_schedulers"] = []

    def _check_class_names(self, saved: tuple[str, ...] | None, path: str) -> None:
        own = tuple(getattr(self._data, "class_names", ()))
        if saved and own and (differing := [pair for pair in zip(saved, own, strict=False) if pair[0] != pair[1]]):
            theirs, ours = differing[0]
            raise UserError(f"{path} was trained on other classes: {theirs!r}, where the data has {ours!r}")


@lru_cache(maxsize=1)
def _step_seeds(seed: int, block: int, rank: int) -> tuple[int, ...]:
    """Return the seeds of a block of steps; one at a time, between steps, each takes ten times as long."""
    steps = range(block * SEEDS_AT_A_TIME, (block + 1) * SEEDS_AT_A_TIME)
    sequences = (np.random.SeedSequence((seed, step, rank)) for step in steps)
    return tuple(int(sequence.generate_state(1, np.uint64)[0]) for sequence in sequences)


def _norms_with_a_forward_of_their_own(network: nn.Module) -> list[str]:
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    norms = ((name, m) for name, m in network.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [name for name, norm in norms if type(norm) not in plain]


def _shapes(state_dict: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state_dict.items() if isinstance(value, Tensor)}


def _check_same_optimisation(saved: Mapping[str, Any], ours: Mapping[str, Any], path: str) -> None:
    """Refuse to go on with an optimiser or a schedule that cannot take over the other's state."""
    for key in ("optimizer", "sched"):
        if saved.get(key, ours[key]) != ours[key]:
            raise UserError(f"{path} was trained with optim.{key} {saved[key]!r}, this run has {ours[key]!r}")


def _describe(hparams: Mapping[str, Any]) -> str:
    name = hparams.get("name", "another model")
    return f"{name} with {hparams.get('num_classes', '?')} classes and {hparams.get('in_chans', '?')} channels"


def _first_difference(ours: dict[str, tuple[int, ...]], theirs: dict[str, tuple[int, ...]]) -> str:
    for key, shape in ours.items():
        if key not in theirs:
            return f"{key} is not in the checkpoint"
        if theirs[key] != shape:
            return f"{key} is {theirs[key]} in the checkpoint and {shape} here"
    return f"{next(key for key in theirs if key not in ours)} is only in the checkpoint"
