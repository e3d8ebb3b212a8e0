"""Loggers of a run: `metrics.csv` always, Weights & Biases where it may, and never a question asked."""

import os
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from cnnbench.errors import first_line

WandbMode = Literal["auto", "online", "offline", "disabled"]


def run_loggers(directory: Path, wandb_mode: WandbMode, **wandb_init: Any) -> list[Logger]:
    """Create the loggers of the run in `directory`.

    Args:
        directory: Where `metrics.csv` and `wandb/` go; exists.
        wandb_mode: `auto` takes `WANDB_MODE` if set, else online with a login, else offline.
        wandb_init: Further arguments of `wandb.init`, such as `name`, `group` and `job_type`.
    """
    metrics = MetricsFile(directory, name="", version="")
    _ = metrics.experiment  # begun now, while the directory is empty: later it warns of what stands there
    loggers: list[Logger] = [metrics]
    mode = resolve_wandb_mode(wandb_mode)
    if mode != "disabled":
        loggers.append(QuietWandbLogger(mode, save_dir=directory, **wandb_init))
    return loggers


def resolve_wandb_mode(mode: WandbMode) -> str:
    """Return online, offline or disabled; `auto` never prompts and never waits for the network."""
    if mode != "auto":
        return mode
    if chosen := os.environ.get("WANDB_MODE"):
        return {"dryrun": "offline", "run": "online"}.get(chosen, chosen)
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"


class MetricsFile(CSVLogger):
    """`metrics.csv` in the run's directory; the hyperparameters are in `config.yaml` beside it."""

    def log_hyperparams(self, params: Any = None) -> None:
        """Write nothing: `config.yaml` holds more than the hyperparameters."""


class QuietWandbLogger(WandbLogger):
    """A W&B run that prints one line, and goes on offline where the server cannot be reached.

    Args:
        mode: `online` or `offline`.
        kwargs: Arguments of Lightning's `WandbLogger`.
    """

    def __init__(self, mode: str, **kwargs: Any) -> None:
        kwargs.setdefault("project", os.environ.get("WANDB_PROJECT", "cnnbench"))
        super().__init__(**kwargs)
        self._wandb_init.pop("anonymous")  # wandb warns of it, whatever its value
        self.mode = mode

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The wandb run, begun at the first use."""
        if self._experiment is None:
            import wandb

            settings = wandb.Settings(silent=True, init_timeout=30, console="off")
            try:
                self._experiment = wandb.init(**self._wandb_init, mode=self.mode, settings=settings)
            except wandb.errors.Error as error:
                if self.mode == "offline":
                    raise
                self.mode = "offline"
                rank_zero_info(f"W&B       cannot be reached, going on offline ({first_line(error)})")
                self._experiment = wandb.init(**self._wandb_init, mode="offline", settings=settings)
            self._experiment.define_metric("trainer/global_step")
            self._experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return self._experiment

    @property
    def where(self) -> str:
        """Where the run can be seen: its address, or how to send it there."""
        if self.mode == "online":
            return str(self.experiment.url)
        return f"offline; to upload: wandb sync {Path(self.experiment.dir).parent}"

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the W&B run with the state of training."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
