"""The hooks of a run that somebody has written, found once and called as Lightning calls all that there are."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.core.hooks import DataHooks
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

from cnnbench.callbacks.last_checkpoint import LastCheckpoint

Hook = Callable[..., Any]


class WrittenHooks:
    """Calls the hooks of a run that somebody has written.

    While one runs, its name stands where `LightningModule.log` looks it up.

    Attributes:
        are_around_torch_alone: Whether forward, backward and update are torch's, and all that strategy, precision and
            Lightning's optimiser add to them is to call the hooks.
        ask_for_sigterm: Whether the processes ask each other before each batch whether one has to end.
        training_step: That of the task, with what strategy and precision put around it.
        step_takes_index: Whether it takes the index of the batch.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self._task = trainer, trainer.lightning_module
        self._state = vars(self._task)  # around `Module.__setattr__`, which is slow
        self._found: dict[str, tuple[list[Hook], Hook | None]] = {}  # of the callbacks, of the task
        self._of_batch = list(_batch_hooks(trainer))
        self._of_strategy = _written(trainer.strategy, "on_train_batch_start", Strategy)
        # it waits for the device in each step; `LastCheckpoint` listens in Lightning's place, and asks less often
        self.ask_for_sigterm = trainer.world_size > 1 and torch.distributed.is_initialized()
        self.ask_for_sigterm &= not any(isinstance(callback, LastCheckpoint) for callback in trainer.callbacks)
        self.are_around_torch_alone = _is_torch_alone(trainer)
        self.training_step = self._task.training_step if _is_step_alone(trainer) else trainer.strategy.training_step
        self.step_takes_index = is_param_in_hook_signature(self._task.training_step, "batch_idx", min_args=2)

    def of_both(self, name: str, *args: Any) -> Any:
        """Call a hook of the callbacks, then the task's, where it does something only if it is written.

        Returns:
            What the task's returns.
        """
        if name not in self._found:
            found = [_written(callback, name, Callback) for callback in self._trainer.callbacks]
            self._found[name] = [hook for hook in found if hook], _written(self._task, name, LightningModule)
        of_callbacks, of_task = self._found[name]
        if not of_callbacks and of_task is None:
            return None
        former, self._state["_current_fx_name"] = self._state["_current_fx_name"], name
        for hook in of_callbacks:
            hook(self._trainer, self._task, *args)
        response = None if of_task is None else of_task(*args)
        self._state["_current_fx_name"] = former
        return response

    def of_itself(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a hook of the task that does something also where it is not written."""
        return self.under(name, getattr(self._task, name), *args, **kwargs)

    def under(self, name: str, function: Hook, *args: Any, **kwargs: Any) -> Any:
        """Call a function as the hook of this name."""
        former, self._state["_current_fx_name"] = self._state["_current_fx_name"], name
        output = function(*args, **kwargs)
        self._state["_current_fx_name"] = former
        return output

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
        """Call the hooks before a batch, and return what the task's returns."""
        response = self.of_both("on_train_batch_start", batch, batch_idx)
        if self._of_strategy is not None:
            self.under("on_train_batch_start", self._of_strategy, batch, batch_idx)
        return response

    def on_device(self, batch: Any) -> Any:
        """Bring a batch to its device, and return it there."""
        for name, hook, args in self._of_batch:
            batch = hook(batch, *args) if name is None else self.under(name, hook, batch, *args)
        return batch


def _batch_hooks(trainer: Trainer) -> Iterator[tuple[str | None, Hook, tuple[Any, ...]]]:
    """Yield what brings a batch to its device: the name that it runs under, hook and further arguments."""
    strategy, task = trainer.strategy, trainer.lightning_module
    if (hook := _written(trainer.precision_plugin, "convert_input", Precision)) is not None:
        yield None, hook, ()
    steps: dict[str, tuple[Any, ...]] = {
        "on_before_batch_transfer": (0,),
        "transfer_batch_to_device": (strategy.root_device, 0),
        "on_after_batch_transfer": (0,),
    }
    for name, args in steps.items():
        owner = trainer._data_connector._datahook_selector.get_instance(name)
        before = name == "on_before_batch_transfer"
        if not before and (own := _written(strategy, "batch_to_device", Strategy)) is not None:
            yield "batch_to_device", own, ()
            return
        hook = getattr(owner, name)
        if name == "transfer_batch_to_device" or _written(owner, name, DataHooks) is not None:
            yield name if owner is task else None if before else "batch_to_device", hook, args


def _written(owner: object, name: str, base: type) -> Hook | None:
    """Return a hook, None where it is the one of the base class."""
    hook = getattr(owner, name)
    inherited = getattr(hook, "__func__", None) is getattr(base, name)
    return hook if callable(hook) and not inherited else None


def _is_step_alone(trainer: Trainer) -> bool:
    strategy, plugin = trainer.strategy, trainer.precision_plugin
    contexts = [_written(plugin, name, Precision) for name in ("train_step_context", "forward_context")]
    around = [*contexts, _written(strategy, "training_step", Strategy)]
    return not any(around) and strategy.model is trainer.lightning_module


def _is_torch_alone(trainer: Trainer) -> bool:
    strategy, plugin = trainer.strategy, trainer.precision_plugin
    of_strategy = ("training_step", "post_training_step", "backward", "pre_backward", "post_backward", "optimizer_step")
    of_plugin = ("pre_backward", "backward", "post_backward", "optimizer_step", "_wrap_closure", "_after_closure")
    own = [name for name in of_strategy if _written(strategy, name, Strategy) is not None]
    if not (isinstance(plugin, MixedPrecision) and plugin.scaler is None):  # which then differs in the forward alone
        own += [name for name in (*of_plugin, "_clip_gradients") if _written(plugin, name, Precision) is not None]
    own += ["optimizer_step"] if _written(trainer.lightning_module, "optimizer_step", LightningModule) else []
    return not own and not strategy.handles_gradient_accumulation
