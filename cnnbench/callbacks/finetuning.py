"""Transfer learning: which stages of a pretrained network learn, from which epoch on, and at what rate."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn

from cnnbench.errors import UserError, did_you_mean, either
from cnnbench.models.stages import Part, classifier_of, stages_of
from cnnbench.tasks.base import Task

# Strategy -> the options that it takes, with their defaults.
_STRATEGIES: dict[str, dict[str, Any]] = {
    "feature_extraction": {},
    "last_stages": {"stages": 1, "lr_decay": 1.0},
    "discriminative": {"lr_decay": 0.5},
    "gradual": {"stages": None, "lr_decay": 1.0, "unfreeze_every": 1},
}
_STARTS = ("pretrained", "pretrained_backbone", "weights")  # settings of tasks: each gives weights to begin with
_FREEZING = ("freeze_backbone", "trained_heads")  # settings of tasks that say what is trained, too
_NORMS_WITH_STATISTICS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)

_log = logging.getLogger(__name__)


class Finetuning(Callback):
    """Trains the classifier, and of the pretrained network behind it what a strategy says.

    The network is cut into stages by its `feature_info`: a resnet18 into `act1` (the stem) and `layer1` to `layer4`, a
    ViT into its blocks. What is frozen needs no gradient, and its BatchNorm keeps the statistics that it came with.
    The number of parameters that are trained is printed at every change, and logged every epoch as
    `train/trainable_parameters`.

    All parameters are in the optimiser from the start, and those without a gradient are passed over, so that its state
    outlives unfreezing and resuming, and the schedule knows every rate.

    - `feature_extraction`: the classifier alone (Donahue et al. 2014, arXiv:1310.1531).
    - `last_stages`: the classifier and the last `stages`.
    - `discriminative`: everything, each stage at `lr_decay` times the rate of the one behind it, and the classifier at
      the full rate (Howard and Ruder 2018, arXiv:1801.06146).
    - `gradual`: the classifier alone, and after every `unfreeze_every` epochs one more stage, the last one first (the
      same paper).

    Args:
        strategy: One of these four.
        stages: Number of stages that are trained in the end, counted from the classifier; default 1, with `gradual`
            all.
        lr_decay: Factor of the learning rate from a stage to the one before it, above 0 and at most 1; default 1, with
            `discriminative` 0.5.
        unfreeze_every: Epochs from one stage to the next; default 1.

    Raises:
        UserError: There is no such strategy, it does not take an option, or a value is out of range.
    """

    def __init__(
        self,
        strategy: str,
        stages: int | None = None,
        lr_decay: float | None = None,
        unfreeze_every: int | None = None,
    ) -> None:
        given = {"stages": stages, "lr_decay": lr_decay, "unfreeze_every": unfreeze_every}
        given = {option: value for option, value in given.items() if value is not None}
        _check_options(strategy, given)
        self.strategy = strategy
        self._options = {**_STRATEGIES[strategy], **given}
        self._saved: Mapping[str, Any] | None = None
        self._trained: int | None = None  # stages, once training has begun
        self._news = ""

    def trained_stages(self, epoch: int, count: int) -> int:
        """Return how many of `count` stages, counted from the classifier, are trained in an epoch (from 0)."""
        if self.strategy == "feature_extraction":
            return 0
        in_the_end = count if self._options.get("stages") is None else self._options["stages"]
        return min(in_the_end, epoch // self._options["unfreeze_every"] if self.strategy == "gradual" else count)

    def learning_rates(self, network: nn.Module) -> dict[str, float]:
        """Return the factor of the learning rate of each parameter, by its name in the network.

        Raises:
            UserError: The network has no such stages.
        """
        stages = self._stages(network)
        decay = self._options.get("lr_decay", 1.0)
        factors = dict.fromkeys(classifier_of(network).parameters, 1.0)
        for distance, stage in enumerate(reversed(stages), start=1):
            factors |= dict.fromkeys(stage.parameters, decay**distance)
        return factors

    # ------------------------------------------------------------------ hooks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell the task the learning rates, before it creates its optimiser.

        Raises:
            UserError: The module is no task of cnnbench, or says itself what is trained, or the Trainer's strategy
                shards what would be frozen.
        """
        if stage != "fit":
            return
        if not isinstance(pl_module, Task):
            raise UserError(f"Finetuning is for the tasks of cnnbench, not for {type(pl_module).__name__}")
        if given := [f"model.{setting}" for setting in _FREEZING if pl_module.hparams.get(setting)]:
            names = " and ".join(given)
            raise UserError(f"Finetuning does not go with {names}: both say what is trained, leave one of them out")
        if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
            name = type(trainer.strategy).__name__
            raise UserError(f"Finetuning is for one device or DDP: {name} does not see a parameter unfreeze")
        if pl_module.network is not None:
            pl_module.network.requires_grad_()  # a former run may have frozen it, and the optimiser is to have it all
        self._trained = None
        pl_module.learning_rates = self.learning_rates

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to go on with a run of another strategy.

        Raises:
            UserError: Saying what differs.
        """
        for option, value in (self._saved or {}).items():
            if self.state_dict().get(option) != value:
                now = self.state_dict().get(option)
                raise UserError(f"{trainer.ckpt_path} was trained with {option} {value!r} of Finetuning, not {now!r}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze; a run that resumes within an epoch has no other start of it."""
        if not (trainer.ckpt_path or any(map(pl_module.hparams.get, _STARTS))):
            published = pl_module.published_weights
            starts = "--model.weights FILE" + (f" or --model.{published} true" if published else "")
            _log.warning("Finetuning begins from random weights of %s: give %s", pl_module.title, starts)
        self._freeze(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unfreeze what this epoch adds."""
        self._freeze(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Print what has changed, below the line of the epoch before."""
        if self._news:
            pl_module.print(self._news)
            self._news = ""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the number of parameters that were trained."""
        # float32, Lightning's own choice, counts to 16 million
        count = torch.tensor(_trainable(pl_module.network), dtype=torch.float64)
        pl_module.log("train/trainable_parameters", count)

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, which a resumed run must share."""
        return {"strategy": self.strategy, **self._options}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Note the settings of the run that is resumed."""
        self._saved = state_dict

    # ------------------------------------------------------------------ freezing

    def _stages(self, network: nn.Module) -> list[Part]:
        if self.strategy == "feature_extraction":
            return []
        stages = stages_of(network)
        if (wanted := self._options.get("stages") or 0) > len(stages):
            names = ", ".join(stage.name for stage in stages)
            raise UserError(f"Finetuning asks for the last {wanted} stages, but there are {len(stages)}: {names}")
        return stages

    def _freeze(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network = pl_module.network
        stages = self._stages(network)
        trained = self.trained_stages(trainer.current_epoch, len(stages))
        parts = [*stages[len(stages) - trained :], classifier_of(network)]
        if trained != self._trained:
            _require_gradients(network, {name for part in parts for name in part.parameters})
            _show_to_ddp(trainer)
            self._news = _describe(network, parts)
            self._trained = trained
        _set_norms(network, {name for part in parts for name in part.modules})


def _check_options(strategy: str, given: Mapping[str, Any]) -> None:
    if strategy not in _STRATEGIES:
        raise UserError(f"unknown strategy {strategy!r} of Finetuning{did_you_mean(strategy, _STRATEGIES)}")
    for option in given:
        if option not in _STRATEGIES[strategy]:
            takers = either([name for name, options in _STRATEGIES.items() if option in options])
            raise UserError(f"Finetuning: strategy {strategy!r} takes no {option}, {takers} does")
    for option in ("stages", "unfreeze_every"):
        if given.get(option, 1) < 1:
            alone = "; for the classifier alone take strategy 'feature_extraction'" if option == "stages" else ""
            raise UserError(f"Finetuning: {option} is {given[option]}, but must be at least 1{alone}")
    if not 0 < given.get("lr_decay", 1) <= 1:
        raise UserError(f"Finetuning: lr_decay is {given['lr_decay']}, but must be above 0 and at most 1")


def _require_gradients(network: nn.Module, names: set[str]) -> None:
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in names)


def _show_to_ddp(trainer: Trainer) -> None:
    """Have DDP look at the parameters again: it averages the gradients of those that needed one at its creation."""
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy.model = trainer.lightning_module
        trainer.strategy.configure_ddp()


def _set_norms(network: nn.Module, trained: set[str]) -> None:
    """Have frozen norms use the statistics that they came with, and leave these as they are."""
    for name, module in network.named_modules():
        if isinstance(module, _NORMS_WITH_STATISTICS):
            module.train(name in trained)


def _trainable(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _describe(network: nn.Module, parts: list[Part]) -> str:
    total = sum(parameter.numel() for parameter in network.parameters())
    names = ", ".join(part.name for part in reversed(parts))
    return f"trained  {_trainable(network):,} of {total:,} parameters: {names}"
