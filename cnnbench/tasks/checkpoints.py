"""Checkpoints of a task: they say what they hold, and refuse a run that they do not fit."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor

from cnnbench.errors import UserError
from cnnbench.tasks.record import record


class Recorded(LightningModule):
    """A task whose checkpoints record model, class names, normalisation and data."""

    @property
    def _data(self) -> LightningDataModule | None:
        return None if self._trainer is None else self._trainer.datamodule

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
