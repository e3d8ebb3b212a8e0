"""Loggers of a run: `metrics.csv` always, Weights & Biases where it may, and never a question asked."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from cnnbench.callbacks.metrics_file import MetricsFile, read_rows
from cnnbench.errors import UserError, did_you_mean, first_line

WandbMode = Literal["auto", "online", "offline", "disabled"]

# wandb's own settings, unless the environment has them: seconds to reach the server when a run begins
# (WANDB_INIT_TIMEOUT), and to upload what is left when it ends (WANDB_FINISH_TIMEOUT).
_TIMEOUTS = {"init_timeout": 20.0, "finish_timeout": 300.0}
_OTHER_NAMES = {"dryrun": "offline", "run": "online"}  # of wandb's modes


def run_loggers(
    directory: Path, wandb_mode: WandbMode, logged: int = 0, reports: int = 0, **wandb_init: Any
) -> list[Logger]:
    """Create the loggers of the run in `directory`.

    Args:
        directory: Where `metrics.csv` and `wandb/` go; exists.
        wandb_mode: `auto` takes `WANDB_MODE` if set, else online with a login, else offline.
        logged: How many rows of a run that is continued stand; 0 for a new one.
        reports: How many rows of it are at W&B alone.
        wandb_init: Further arguments of `wandb.init`, such as `name`, `group` and `job_type`.

    Raises:
        UserError: `WANDB_MODE` is none of wandb's modes.
    """
    loggers: list[Logger] = [MetricsFile(directory, logged)]
    mode = requested_wandb_mode(wandb_mode)
    if mode != "disabled":
        loggers.append(QuietWandbLogger(mode, logged, reports, save_dir=directory, **wandb_init))
    return loggers


def requested_wandb_mode(mode: WandbMode) -> WandbMode:
    """Return `mode`, or what `WANDB_MODE` says where it is `auto`; wandb is not imported for it."""
    chosen = os.environ.get("WANDB_MODE")
    if mode != "auto" or not chosen:
        return mode
    known = ("online", "offline", "disabled")
    if (chosen := _OTHER_NAMES.get(chosen, chosen)) not in known:
        raise UserError(f"unknown WANDB_MODE {chosen!r} in the environment{did_you_mean(chosen, known)}")
    return chosen


class QuietWandbLogger(WandbLogger):
    """A W&B run that asks nothing, prints nothing, and never stops the training.

    It goes on offline where there is no login or the server cannot be reached. What fails later is told in a
    line (`guarded`).

    The run of a directory that is continued goes on under its id. Online it gets what the server has not; an offline
    one begins a new log, which is whole: `metrics.csv` holds the rows before.

    Args:
        mode: `online`, `offline`, or `auto`: online with a login, else offline.
        logged: How many rows of `metrics.csv` a run that is continued begins with; 0 for a new one.
        reports: How many rows of it the server has beside those, one for each time that it ended.
        kwargs: Arguments of Lightning's `WandbLogger`.

    Attributes:
        stays_open: Whether the run goes on after a Trainer has succeeded, for what another call of it logs, until
            `finish`.
    """

    stays_open = False

    def __init__(self, mode: WandbMode, logged: int = 0, reports: int = 0, **kwargs: Any) -> None:
        kwargs.setdefault("project", os.environ.get("WANDB_PROJECT", "cnnbench"))
        super().__init__(**kwargs)
        self._wandb_init.pop("anonymous")  # wandb warns of it, whatever its value
        self._wandb_init.pop("resume")  # with an id alone: it is never asked for
        if logged and (former := _former_id(Path(self.save_dir))):
            self._wandb_init |= {"id": former, "resume": "allow"}
        self._logged, self._reports = logged, reports
        self._known = 0  # rows that the server has already
        self.mode: str = mode
        self._reason = ""  # why the run is offline, where that was not asked for
        self._lost = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The wandb run, begun at the first use."""
        if self._experiment is None:
            self._experiment = self._begin()
            self._experiment.define_metric("trainer/global_step")
            self._experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
            self._send_former_rows()
        return self._experiment

    @property
    def where(self) -> str:
        """Where the run can be seen: its address, or how to send it there; only the first process knows."""
        run = self.experiment  # decides on the mode
        if self._experiment is None:
            return ""
        if self.mode == "disabled":
            return "disabled"
        if self.mode == "online":
            return str(run.url)
        return f"offline{self._reason}; to upload: {self._sync}"

    @property
    def _sync(self) -> str:
        return f"wandb sync {Path(self.experiment.dir).parent}"

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Within, a failure of W&B is told in a line, and training goes on."""
        try:
            yield
        except Exception as error:
            print(f"W&B: {what} failed: {first_line(error)}; to upload what is missing: {self._sync}", flush=True)

    @contextmanager
    def staging(self) -> Iterator[None]:
        """Within, wandb copies the files of tables into the run's directory, not below the user's home.

        An offline run is whole then: `wandb sync` finds its images in that directory.
        """
        if "WANDB_DATA_DIR" in os.environ:
            yield
            return
        os.environ["WANDB_DATA_DIR"] = str(Path(self.experiment.dir).parent.resolve())
        try:
            yield
        finally:
            del os.environ["WANDB_DATA_DIR"]

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Record metrics, as long as wandb takes them."""
        if self._lost:
            return
        _ = self.experiment  # begun outside: a user's mistake is none of W&B's failures
        self._logged += 1
        if self._logged <= self._known:  # sent before the run was killed
            return
        with self.guarded("tracking"):
            super().log_metrics(metrics, step)
            return
        self._lost = True

    def _send_former_rows(self) -> None:
        """Send those rows of a run that is continued that the server, or an offline log, has not."""
        self._known = max(0, self._experiment.starting_step - self._reports)
        for row in read_rows(Path(self.save_dir))[self._known : self._logged]:
            step = int(row.pop("step"))
            self._experiment.log({**{key: _number(text) for key, text in row.items()}, "trainer/global_step": step})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the W&B run with the state of training."""
        super().finalize(status)
        if status != "success" or not self.stays_open:
            self.finish(status)

    @rank_zero_only
    def finish(self, status: str = "success") -> None:
        """End the W&B run, where there is one."""
        if self._experiment is not None:
            with self.guarded("the end of the run"):
                self._experiment.finish(exit_code=0 if status == "success" else 1)

    def _begin(self) -> Any:
        import wandb

        self.mode, self._reason = _log_in(self.mode)
        if self.mode == "online":
            before = set(Path(self.save_dir, "wandb").glob("run-*"))
            try:
                return self._init()
            except (wandb.errors.Error, TimeoutError) as error:
                self.mode, self._reason = "offline", f", no W&B server reached ({first_line(error)})"
                for attempt in set(Path(self.save_dir, "wandb").glob("run-*")) - before:
                    shutil.rmtree(attempt, ignore_errors=True)
        self._wandb_init.pop("resume", None)  # only a server can
        return self._init()

    def _init(self) -> Any:
        import wandb

        timeouts = {key: float(os.environ.get(f"WANDB_{key.upper()}", seconds)) for key, seconds in _TIMEOUTS.items()}
        settings = wandb.Settings(
            silent=True, console="off", reinit="create_new", finish_timeout_raises=True, **timeouts
        )
        return wandb.init(**self._wandb_init, mode=self.mode, settings=settings)


def _former_id(directory: Path) -> str | None:
    """Return the id of the W&B run that a run's directory has already."""
    names = sorted(path.name.removeprefix("offline-") for path in directory.glob("wandb/*run-*-*"))
    found = re.fullmatch(r"run-\d+_\d+-(.+)", names[-1]) if names else None
    return found[1] if found else None


def _number(text: str) -> float | int:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _log_in(mode: str) -> tuple[str, str]:
    """Return online, offline or disabled, and why it is offline where online was wanted.

    Nothing is asked, and the server is not: that a key is wrong shows when the run begins.
    """
    import wandb

    try:
        session = wandb.setup(wandb.Settings(silent=True))
    except ValueError as error:
        problem = " ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise UserError(f"wandb's settings or a WANDB_ variable in the environment: {problem}") from error
    kept = _OTHER_NAMES.get(session.settings.mode, session.settings.mode)
    if mode == "auto" and kept in ("offline", "disabled"):  # by `wandb offline` or `wandb disabled`
        return kept, ""
    if mode == "offline":
        return mode, ""
    wandb.setup(wandb.Settings(mode="online"))
    try:
        if wandb.login(prompt=False, verify=False):
            return "online", ""
    except wandb.errors.Error as error:
        return "offline", f", no W&B login ({first_line(error)})"
    return "offline", "" if mode == "auto" else ", no W&B login (wandb login, or WANDB_API_KEY)"
