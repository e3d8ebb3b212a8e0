"""The moving average of the weights: evaluated and saved in place of the weights that the optimiser moves."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from cnnbench.errors import UserError

_RAW = "current_model_state"  # where Lightning's own averaging keeps the weights of the optimiser, too
_NETWORK = "network."


class EMA(Callback):
    """Keeps the exponential moving average of the network's weights, by timm's `ModelEmaV3`.

    The average begins as the weights after the first step, and takes in those of each step that follows. Every
    validation is of the average, and so is what training leaves in the network at its end. A checkpoint holds the
    average as `state_dict`, which is what `test`, `predict` and `--model.weights` load, and the optimiser's own weights
    beside it, from which a resumed run goes on exactly. The average lies on the network's device, in float32 where
    the network's precision is lower.

    Args:
        decay: Share of the average that a step keeps; between 0 and 1.
        warmup: Let the share grow from 0 to `decay` as 1 - (1 + step)^(-2/3), so that a short run has an average
            of its later steps.
        use_buffers: Average buffers too, such as BatchNorm's statistics; else they are those of the last step.

    Raises:
        UserError: `decay` is out of range.
    """

    def __init__(self, decay: float = 0.9999, warmup: bool = False, use_buffers: bool = True) -> None:
        if not 0 < decay < 1:
            raise UserError(f"decay of EMA is {decay}, but must be above 0 and below 1")
        self.decay, self.warmup, self.use_buffers = decay, warmup, use_buffers
        self._average: ModelEmaV3 | None = None
        self._loaded: dict[str, Tensor] | None = None  # the average of the checkpoint to resume from
        self._raw: dict[str, Tensor] | None = None  # the optimiser's weights, while the network holds the average

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what would part the average from its checkpoints.

        Raises:
            UserError: Weights are spread over processes, or some callback saves weights alone.
        """
        if stage != "fit":
            return
        if trainer.strategy.restore_checkpoint_after_setup:  # of those strategies that spread weights
            raise UserError(f"EMA needs whole weights in each process: {type(trainer.strategy).__name__} spreads them")
        if any(isinstance(other, ModelCheckpoint) and other.save_weights_only for other in trainer.callbacks):
            raise UserError("ModelCheckpoint with save_weights_only leaves out the average of EMA: leave it out")

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the average, and give the network the optimiser's weights back, where training goes on.

        A checkpoint of a run without an average begins one.
        """
        if trainer.state.fn == "fit" and _RAW in checkpoint:
            self._loaded = _of_network(checkpoint["state_dict"])
            pl_module.load_state_dict(checkpoint[_RAW])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the average beside the network, which is on its device now."""
        network = pl_module.network
        self._average = ModelEmaV3(
            network,
            decay=self.decay,
            use_warmup=self.warmup,
            exclude_buffers=not self.use_buffers,
            dtype=_at_least_float32(network),
        )
        if self._loaded is not None:
            self._average.module.load_state_dict(self._loaded)
            self._loaded = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the step that training begins with."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the weights, where the batch has ended a step."""
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            self._average.update(pl_module.network, step=self._step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the network have the average; the strategy gives all processes the buffers of the first."""
        if self._average is not None:
            self._use_average(pl_module.network)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the network have the optimiser's weights."""
        if self._raw is not None:
            pl_module.network.load_state_dict(self._raw)
            self._raw = None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the network."""
        self._use_average(pl_module.network)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Free the memory."""
        self._average = self._raw = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average, and the optimiser's weights beside it, whichever of them the network holds."""
        if self._average is None:
            return
        weights = checkpoint["state_dict"]
        checkpoint[_RAW] = weights if self._raw is None else weights | _as_of_task(self._raw)
        checkpoint["state_dict"] = weights | _as_of_task(self._average.module.state_dict())

    def _use_average(self, network: nn.Module) -> None:
        self._raw = {key: value.clone() for key, value in network.state_dict().items()}
        network.load_state_dict(self._average.module.state_dict())


def _of_network(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(_NETWORK): value for key, value in weights.items() if key.startswith(_NETWORK)}


def _as_of_task(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {_NETWORK + key: value for key, value in weights.items()}


def _at_least_float32(network: nn.Module) -> torch.dtype:
    """Return the precision in which a small step of the average is not rounded away."""
    return torch.promote_types(next(network.parameters()).dtype, torch.float32)
