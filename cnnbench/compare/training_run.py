"""One run of a training duel: a network trained by a recipe as `fit` would, its figures kept in a file."""

import hashlib
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from cnnbench.callbacks.atomic import written_whole
from cnnbench.callbacks.tracking import QuietWandbLogger, WandbMode, run_loggers
from cnnbench.compare.environment import environment
from cnnbench.compare.recipe import Recipe
from cnnbench.compare.result import from_json, to_json
from cnnbench.compare.settings import Settings
from cnnbench.tasks.lean_loop import use_lean_loop
from cnnbench.tasks.recipe.mistakes import users_mistake
from cnnbench.tasks.recipe.trainer_settings import as_list

_KEPT = "run.json"  # there once the run has finished


@dataclass(frozen=True)
class Run:
    """What is kept of a finished run.

    Attributes:
        losses: Of every optimiser step, as the float32 that the network gave.
        metrics: Figures of the final weights by name: "val/accuracy", "test/loss".
        seconds_per_step: Median of forward, loss, backward and update, without the loading of the batch.
    """

    losses: list[float]
    metrics: dict[str, float]
    seconds_per_step: float


@dataclass(frozen=True)
class RunPlan:
    """What the runs of a duel have in common, and which of them this is.

    Attributes:
        recipe: By which to train.
        settings: Device, precision and length.
        label: The side's.
        role: "ours" or "theirs".
        seed: Of data, augmentation and random draws.
        directory: Of the comparison.
        wandb: Mode of W&B.
        group: Of the run in W&B.
    """

    recipe: Recipe
    settings: Settings
    label: str
    role: str
    seed: int
    directory: Path
    wandb: WandbMode
    group: str


def finished_run(plan: RunPlan, network: nn.Module) -> Run:
    """Return the run, trained now unless it has been before.

    A finished run is kept in a directory whose name holds a hash of all that decides its figures: recipe, seed, length,
    machine, versions, initial weights, and the code of the network's layers. A run that was interrupted begins anew.

    Args:
        plan: What to train, and where to keep it.
        network: With its initial weights, which training changes.

    Raises:
        UserError: The recipe, the data or a setting does not fit.
        KeyboardInterrupt: The user stopped it.
    """
    directory = plan.directory / f"seed{plan.seed}-{plan.role}-{_key(plan, network)}"
    kept = directory / _KEPT
    if not kept.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        run = _train(plan, network, directory)
        with written_whole(kept) as temporary:
            temporary.write_text(json.dumps(to_json(run)), encoding="utf-8")
    return from_json(Run, json.loads(kept.read_text(encoding="utf-8")))


class StepRecorder(Callback):
    """Notes loss and time of every optimiser step.

    Attributes:
        losses: Of every step; of batches that are accumulated, their mean.
        seconds: The time of each, waited for on an accelerator.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self._batches: list[Tensor] = []  # losses within the running step
        self._elapsed = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the step, where the batch has ended one; Lightning has divided its loss by the batches of a step."""
        self._batches.append(outputs["loss"])
        if trainer.global_step == len(self.losses):
            self._elapsed += time.perf_counter() - self._began
            return
        loss = sum(self._batches).item()  # waits for the accelerator
        self.seconds.append(self._elapsed + time.perf_counter() - self._began)
        self.losses.append(loss)
        self._batches, self._elapsed = [], 0.0


def _train(plan: RunPlan, network: nn.Module, directory: Path) -> Run:
    recorder = StepRecorder()
    try:
        metrics = _fit_and_evaluate(plan, network, directory, recorder)
    except SystemExit as stop:  # which Lightning makes of Ctrl-C
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt("stopped; the same command goes on with the duel") from stop
        raise
    except Exception as error:
        mistake = users_mistake(error, directory, began=bool(recorder.losses))
        if mistake is None or mistake is error:
            raise
        raise mistake from error
    return Run(recorder.losses, metrics, statistics.median(recorder.seconds))


def _fit_and_evaluate(plan: RunPlan, network: nn.Module, directory: Path, recorder: StepRecorder) -> dict[str, float]:
    task, data, given = plan.recipe.instantiate()
    task.network = None  # a recipe that names the classes has one already
    task.create_network = lambda **arguments: network
    loggers = _loggers(plan, directory)
    trainer = Trainer(**given | _overridden(plan.settings, given, directory, recorder) | {"logger": loggers})
    use_lean_loop(trainer)
    _describe(plan, loggers)
    trainer.fit(task, datamodule=data)
    metrics = dict(trainer.validate(task, datamodule=data, verbose=False)[0])
    if data.has_test:
        metrics |= trainer.test(task, datamodule=data, verbose=False)[0]
    for logger in loggers:
        if isinstance(logger, QuietWandbLogger):
            logger.finish()
    return metrics


def _overridden(settings: Settings, given: dict[str, Any], directory: Path, recorder: StepRecorder) -> dict[str, Any]:
    """Return the Trainer's settings that a duel has its own way."""
    device = torch.device(settings.device)
    callbacks = [*as_list(given["callbacks"]), recorder]
    limits = [steps for steps in (given["max_steps"], settings.steps) if steps is not None and steps >= 0]
    return {
        "accelerator": device.type,
        "devices": 1 if device.index is None or device.type == "cpu" else [device.index],
        "num_nodes": 1,
        "strategy": "auto",
        "precision": settings.precision,
        # an accelerator adds in an order of its own otherwise, and a network would part from its own copy
        "deterministic": "warn" if given["deterministic"] is None and device.type != "cpu" else given["deterministic"],
        "max_steps": min(limits, default=-1),
        "callbacks": callbacks,
        "default_root_dir": directory,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def _loggers(plan: RunPlan, directory: Path) -> list[Logger]:
    """Return the loggers of `fit`, in a directory of their own for each attempt at the run."""
    attempt = directory / f"attempt-{1 + len(list(directory.glob('attempt-*')))}"
    attempt.mkdir()
    name = f"{plan.label} seed {plan.seed}"
    loggers = run_loggers(attempt, plan.wandb, name=name, group=plan.group, job_type=plan.role)
    for logger in loggers:
        if isinstance(logger, QuietWandbLogger):
            logger.stays_open = True  # the test follows the training
    return loggers


def _describe(plan: RunPlan, loggers: list[Logger]) -> None:
    duel = {"label": plan.label, "role": plan.role, "seed": plan.seed, "steps": plan.settings.steps}
    for logger in loggers:
        logger.log_hyperparams(yaml.safe_load(plan.recipe.text) | {"duel": duel})


def _key(plan: RunPlan, network: nn.Module) -> str:
    settings = plan.settings
    decides = environment(device=settings.device, precision=settings.precision)
    decides |= {"label": plan.label, "recipe": plan.recipe.text, "seed": plan.seed, "steps": settings.steps}
    decides |= {"network": _fingerprint(network)}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]


def _fingerprint(network: nn.Module) -> str:
    """Return a hash of a network's layers as they print, of the files they are written in, and of its weights."""
    digest = hashlib.sha256(repr(network).encode())
    modules = {type(module).__module__ for module in network.modules()}
    for file in sorted(filter(None, (getattr(sys.modules[name], "__file__", None) for name in modules))):
        digest.update(Path(file).read_bytes())
    for name, value in network.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
