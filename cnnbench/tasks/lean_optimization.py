"""Forward, backward and update of a batch, without the calls of Lightning's that do nothing; part of the lean loop."""

from collections import OrderedDict
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch.loops.optimization.automatic import Closure, ClosureResult, _AutomaticOptimization
from torch import Tensor
from torch.optim import Optimizer

from cnnbench.tasks.written_hooks import WrittenHooks


class LeanOptimization(_AutomaticOptimization):
    """Forward, backward and update of a batch."""

    hooks: WrittenHooks | None = None  # None: the running epoch is Lightning's

    def run(self, optimizer: Optimizer, batch_idx: int, kwargs: OrderedDict) -> dict[str, Any]:
        """Compute the gradients of a batch, update the weights where a step ends, and return the loss."""
        hooks, trainer = self.hooks, self.trainer
        if hooks is None or not hooks.are_around_torch_alone or self._skip_backward:
            return super().run(optimizer, batch_idx, kwargs)
        outputs: dict[str, Any] = {}

        def update_closure() -> Tensor | None:
            nonlocal outputs
            with nullcontext() if torch.is_grad_enabled() else torch.enable_grad():  # torch's optimisers have done so
                outputs = self._forward_and_backward(optimizer, batch_idx, kwargs)
            hooks.of_both("on_before_optimizer_step", optimizer)
            value, algorithm = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
            hooks.of_itself(
                "configure_gradient_clipping", optimizer, gradient_clip_val=value, gradient_clip_algorithm=algorithm
            )
            return outputs.get("loss")

        if trainer.fit_loop._should_accumulate():
            outputs = self._forward_and_backward(optimizer, batch_idx, kwargs)
        else:
            self.optim_progress.optimizer.step.increment_ready()
            hooks.under("optimizer_step", optimizer.step, closure=update_closure)
            self.optim_progress.optimizer.step.increment_completed()
        return outputs

    def _forward_and_backward(self, optimizer: Optimizer, batch_idx: int, kwargs: OrderedDict) -> dict[str, Any]:
        """Return what the step puts out, nothing where it has no loss."""
        accumulated = self.trainer.accumulate_grad_batches
        output = self.hooks.under("training_step", self.hooks.training_step, *kwargs.values())
        if isinstance(output, Tensor) and accumulated == 1:
            loss, outputs = output, {"loss": output.detach()}  # which Lightning divides by 1, there and back
        else:
            result = ClosureResult.from_training_step_output(output, accumulated)
            loss, outputs = result.closure_loss, {} if result.loss is None else result.asdict()
        if loss is None:
            Closure.warning_cache.warn("`training_step` has returned None: the batch is left out")
        if batch_idx % accumulated == 0:
            self._zero_grad(batch_idx, optimizer)
        if loss is not None:
            self.hooks.under("backward", self._backward, loss)
        return outputs

    def _zero_grad(self, batch_idx: int, optimizer: Optimizer) -> None:
        progress = self.optim_progress.optimizer.zero_grad
        progress.increment_ready()
        self.hooks.of_both("on_before_zero_grad", optimizer)
        progress.increment_started()
        self.hooks.of_itself("optimizer_zero_grad", self.trainer.current_epoch, batch_idx, optimizer)
        progress.increment_completed()

    def _backward(self, loss: Tensor) -> None:
        self.hooks.of_both("on_before_backward", loss)
        self.trainer.lightning_module.backward(loss)
        self.hooks.of_both("on_after_backward")
