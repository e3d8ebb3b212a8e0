"""Settings of the Trainer that Lightning takes as they are, and stumbles over later."""

import os
from typing import Any

from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import FSDPStrategy, StrategyRegistry

from cnnbench.data import checks
from cnnbench.errors import UserError, did_you_mean, either

_PROCESSES_A_CORE = 4  # enough to try out what several devices do; a hundred would halt the machine
_AT_LEAST_ONE = ("accumulate_grad_batches", "check_val_every_n_epoch")


def check_trainer_settings(settings: Any, seed: bool | int) -> None:
    """Refuse numbers that no run can use, and devices that this machine lacks.

    Args:
        settings: Of the Trainer, by name.
        seed: `seed_everything`.

    Raises:
        UserError: Naming the setting and what it may be.
    """
    for name in _AT_LEAST_ONE:
        if settings[name] is not None:
            checks.at_least(f"trainer.{name}", settings[name], 1)
    checks.at_least("seed_everything", seed, 0)
    for name in ("limit_train_batches", "max_epochs", "max_steps"):
        if settings[name] == 0:
            raise UserError(f"trainer.{name} is 0: there is nothing to train on")
    if isinstance(settings["accelerator"], str):
        on_cpu = _check_devices(settings["accelerator"], settings["devices"])
        _check_strategy(settings["strategy"], on_cpu)


def _check_strategy(strategy: Any, on_cpu: bool) -> None:
    if not isinstance(strategy, str):
        return
    if strategy not in (known := ("auto", *StrategyRegistry.available_strategies())):
        raise UserError(f"unknown trainer.strategy {strategy!r}{did_you_mean(strategy, known)}")
    if on_cpu and strategy in FSDPStrategy.get_registered_strategies():
        raise UserError(f"trainer.strategy {strategy!r} needs GPUs; fsdp2 divides a network among CPUs too")


def as_list(value: Any) -> list[Any]:
    """Return a setting that may be one, several or none as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _check_devices(accelerator: str, devices: Any) -> bool:
    """Check, and return whether the run is on the CPU."""
    names = sorted(AcceleratorRegistry.available_accelerators())
    here = [name for name in names if AcceleratorRegistry[name]["accelerator"].is_available()]
    if accelerator not in (known := ("auto", "gpu", *names)):
        raise UserError(f"unknown trainer.accelerator {accelerator!r}{did_you_mean(accelerator, known)}")
    fits = {"auto": True, "gpu": bool({"cuda", "mps"} & set(here))}.get(accelerator, accelerator in here)
    if not fits:
        raise UserError(f"trainer.accelerator is {accelerator!r}: this machine has only {either(here)}")
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and here == ["cpu"])
    cores = os.cpu_count() or 1
    if on_cpu and str(devices).isdigit() and int(devices) > _PROCESSES_A_CORE * cores:
        raise UserError(
            f"trainer.devices is {devices}: no GPU is used, and {cores} processor cores take at most "
            f"{_PROCESSES_A_CORE * cores} processes"
        )
    return on_cpu
