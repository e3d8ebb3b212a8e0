"""Optimiser and learning-rate schedule, both from timm's factories, described by one `optim` block."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from cnnbench.errors import UserError, did_you_mean, first_line
from cnnbench.tasks.clipping import MODES
from cnnbench.tasks.one_cycle import RISE, OneCycleScheduler

SCHEDULES = ("cosine", "step", "multistep", "onecycle", "tanh", "poly", "constant", "none")


@dataclass
class OptimConfig:
    """How the weights are updated.

    Args:
        optimizer: Name of the optimiser in timm (`timm.optim.list_optimizers()`).
        lr: Peak learning rate, for the whole batch.
        base_batch_size: Images a step that `lr` belongs to: the rate used is lr x (batch_size x processes x
            accumulate_grad_batches) / base_batch_size. None: `lr` is used as it is.
        layer_decay: Factor of the learning rate from each layer to the one before it; the classifier learns at `lr`.
        weight_decay: Not applied to norms, biases and what the network's `no_weight_decay()` names.
        momentum: Momentum of those optimisers that have one.
        opt_args: Further arguments of the optimiser, such as `{betas: [0.9, 0.95]}`.
        sched: Course of the learning rate after warm-up: cosine, step, multistep, onecycle, tanh, poly, constant or
            none.
            `onecycle` is torch's OneCycleLR: from lr/25 up to `lr` over `warmup_epochs` (0: three tenths of the run),
            down to lr/250,000, and momentum from 0.95 to 0.85 and back.
        decay_epochs: With `step`, epochs from one decay to the next; fractions are allowed.
        decay_milestones: With `multistep`, the epochs from the beginning after which the rate decays; fractions are
            allowed.
        decay_rate: With `step` and `multistep`, factor of a decay.
        warmup_epochs: Epochs of linear warm-up, set per step; fractions are allowed.
        warmup_lr: Learning rate at the first step of the warm-up.
        min_lr: Learning rate at the end.
        clip_grad: Bound of the gradient; None: not clipped.
        clip_mode: What is bounded: `norm` of the gradient over all parameters, `value` of each of its numbers, or
            with `agc` (adaptive gradient clipping, arXiv:2102.06171) its norm relative to the weights', unit by unit.
    """

    optimizer: str = "adamw"
    lr: float = 1e-3
    base_batch_size: int | None = None
    layer_decay: float | None = None
    weight_decay: float = 0.05
    momentum: float = 0.9
    opt_args: dict[str, Any] = field(default_factory=dict)
    sched: str = "cosine"
    decay_epochs: float = 30.0
    decay_milestones: list[float] = field(default_factory=list)
    decay_rate: float = 0.1
    warmup_epochs: float = 0.0
    warmup_lr: float = 1e-6
    min_lr: float = 0.0
    clip_grad: float | None = None
    clip_mode: str = "norm"

    def __post_init__(self) -> None:
        if self.optimizer not in (known := list_optimizers()):
            raise UserError(f"unknown optimizer {self.optimizer!r}{did_you_mean(self.optimizer, known)}")
        for name, known in (("sched", SCHEDULES), ("clip_mode", MODES)):
            if (value := getattr(self, name)) not in known:
                raise UserError(f"unknown {name} {value!r}{did_you_mean(value, known)}")
        for name in (
            "lr",
            "weight_decay",
            "decay_epochs",
            "decay_rate",
            "warmup_epochs",
            "warmup_lr",
            "min_lr",
            "clip_grad",
        ):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"optim.{name} is {value}, but must be a number of at least 0")
        for name in ("decay_epochs", "decay_rate"):
            if getattr(self, name) == 0:
                raise UserError(f"optim.{name} is 0, but must be more")
        if (self.sched == "multistep") != bool(self.decay_milestones):
            raise UserError("optim.sched multistep and optim.decay_milestones, such as [16, 22], go together")
        if sorted(self.decay_milestones) != list(self.decay_milestones) or min(self.decay_milestones, default=1) <= 0:
            raise UserError(f"optim.decay_milestones is {self.decay_milestones}: it must be rising epochs above 0")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise UserError(f"optim.layer_decay is {self.layer_decay}, but must be above 0 and at most 1")
        if self.clip_mode != OptimConfig.clip_mode and self.clip_grad is None:
            raise UserError(f"optim.clip_mode is {self.clip_mode}, but optim.clip_grad, its bound, is not given")
        if self.base_batch_size is not None and self.base_batch_size < 1:
            raise UserError(f"optim.base_batch_size is {self.base_batch_size}, but must be at least 1")
        if self.sched == "onecycle" and (self.min_lr, self.warmup_lr) != (OptimConfig.min_lr, OptimConfig.warmup_lr):
            raise UserError("optim.min_lr and optim.warmup_lr are not for sched 'onecycle': it has ends of its own")

    @classmethod
    def of(cls, value: "OptimConfig | Mapping[str, Any] | None") -> "OptimConfig":
        """Return `value` as an `OptimConfig`; a mapping comes from a checkpoint, None means the defaults."""
        if value is None:
            return cls()
        return value if isinstance(value, cls) else cls(**value)

    def never_decays(self, epochs: float) -> bool:
        """Whether a schedule that decays has no time to: a run of so many epochs is all warm-up."""
        return self.warmup_epochs >= epochs and self.sched not in ("constant", "none")

    def scaled(self, images_per_step: int) -> "OptimConfig":
        """Return the same with the learning rate that steps of so many images have by `base_batch_size`."""
        return replace(self, lr=self.lr * (images_per_step / self.base_batch_size), base_batch_size=images_per_step)


def create_optimizer(network: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Create timm's optimiser for the trainable parameters of `network`.

    Raises:
        UserError: The optimiser does not take one of `config.opt_args`, or the network does not tell its layers, and
            `config.layer_decay` needs them.
    """
    optimizer = _timms_optimizer(network, config)
    scales = {group.get("lr_scale", 1.0) for group in optimizer.param_groups}
    if config.layer_decay not in (None, 1.0) and scales == {1.0}:
        raise UserError(f"optim.layer_decay: {type(network).__name__} does not tell its layers (group_matcher)")
    return optimizer


def _timms_optimizer(network: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    try:
        return create_optimizer_v2(
            network,
            opt=config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            layer_decay=config.layer_decay,
            **config.opt_args,
        )
    except TypeError as error:
        message = f"optim.opt_args {config.opt_args} do not fit {config.optimizer!r}: {first_line(error)}"
        raise UserError(message) from error


def scale_learning_rates(optimizer: torch.optim.Optimizer, network: nn.Module, factors: Mapping[str, float]) -> None:
    """Divide the optimiser's groups into such of one learning rate, the highest first.

    Everything else about a group stays, its weight decay among it. timm's schedules multiply by a group's `lr_scale`.

    Args:
        optimizer: Of the network, before it has made a step.
        network: Whose parameters have the names.
        factors: Factor of the learning rate by name of a parameter; those that are not named keep theirs.
    """
    names = {parameter: name for name, parameter in network.named_parameters()}
    divided = []
    for group in optimizer.param_groups:
        by_scale: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            scale = group.get("lr_scale", 1.0) * factors.get(names[parameter], 1.0)
            by_scale.setdefault(scale, []).append(parameter)
        divided += [{**group, "params": params, "lr_scale": scale} for scale, params in by_scale.items()]
    optimizer.param_groups[:] = sorted(divided, key=lambda group: -group["lr_scale"])


def create_scheduler(
    optimizer: torch.optim.Optimizer, config: OptimConfig, updates: int, updates_per_epoch: int
) -> Scheduler | None:
    """Create timm's schedule over `updates` optimiser steps: linear warm-up, then `config.sched` to `min_lr`.

    The schedule counts optimiser steps, so that it is the same whatever the length of an epoch.
    """
    warmup = min(round(config.warmup_epochs * updates_per_epoch), updates)
    if config.sched == "onecycle":
        return OneCycleScheduler(optimizer, updates, warmup or RISE * updates)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=config.sched,
        num_epochs=max(1, updates - warmup),
        decay_epochs=max(1, round(config.decay_epochs * updates_per_epoch)),
        decay_milestones=[round(epoch * updates_per_epoch) - warmup + 1 for epoch in config.decay_milestones],
        decay_rate=config.decay_rate,
        warmup_epochs=warmup,
        warmup_lr=config.warmup_lr,
        warmup_prefix=True,
        min_lr=config.min_lr,
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    if scheduler is None:
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)  # a schedule does this at each step
    return scheduler
