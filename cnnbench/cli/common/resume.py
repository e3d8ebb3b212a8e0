"""Where a run goes on: which checkpoint `last` is, whether its settings still hold, and in which directory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cnnbench.callbacks.atomic import remove_abandoned
from cnnbench.callbacks.checkpoint_files import LAST, PREVIOUS, last_whole, read_checkpoint
from cnnbench.errors import UserError

_NEWEST = (LAST, PREVIOUS)  # a run goes on in its own directory from these

# Settings that may change from one part of a run to the next: its length, where and how fast it is computed, and what
# is shown and kept of it. Any other changes what is learned.
_MAY_CHANGE = {
    *("config", "ckpt_path", "weights_only", "wandb", "checkpoint_every", "compile", "channels_last"),
    *("model.compile", "model.channels_last", "data.num_workers", "data.root", "data.download"),
    *("trainer.max_epochs", "trainer.min_epochs", "trainer.max_steps", "trainer.min_steps", "trainer.max_time"),
    *("trainer.accelerator", "trainer.strategy", "trainer.devices", "trainer.num_nodes", "trainer.benchmark"),
    *("trainer.logger", "trainer.log_every_n_steps", "trainer.default_root_dir", "trainer.profiler"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.enable_checkpointing"),
    *("trainer.num_sanity_val_steps", "trainer.detect_anomaly", "trainer.deterministic"),
}


@dataclass(frozen=True)
class Resume:
    """What a run goes on from.

    Attributes:
        checkpoint: The file.
        directory: The run's, which is continued; None: the run goes on in a new one.
        logged: Rows of its `metrics.csv` that belong to the checkpoint.
        ended: How often it had come to its end, and was prolonged.
        world_size: Number of processes that it was trained by; None where the checkpoint does not tell.
        ckpt_path: What the continued run itself began from.
    """

    checkpoint: Path
    directory: Path | None = None
    logged: int = 0
    ended: int = 0
    world_size: int | None = None
    ckpt_path: str | None = None

    def clear_away(self) -> None:
        """Remove from the directory that is continued what a kill has left, and a damaged `last.ckpt`.

        The next save would put that in the place of the one before it, which is whole.
        """
        if self.directory is None:
            return
        for directory in (self.directory, self.checkpoint.parent):
            remove_abandoned(directory)
        if self.checkpoint.name == PREVIOUS:
            _, damaged = last_whole(self.checkpoint.parent)
            for file in damaged:
                file.unlink()

    def check_world_size(self, present: int) -> None:
        """Refuse to go on in another number of processes, which would take other batches.

        Raises:
            UserError: There are `present` of them, and were others.
        """
        if self.world_size not in (None, present):
            raise UserError(
                f"{self.checkpoint} was trained by {_processes(self.world_size)}, this run has {_processes(present)}, "
                "which would take other batches: give --trainer.devices and --trainer.num_nodes as they were, or begin "
                f"anew from its weights with --model.weights {self.checkpoint}"
            )


def continued_by(checkpoint: Path) -> Path | None:
    """Return the directory of the run that going on from a checkpoint continues; None where it begins another."""
    return _run_of(checkpoint) if checkpoint.name in _NEWEST else None


def resume_from(checkpoint: Path, settings: Mapping[str, Any]) -> Resume:
    """Return how training goes on from `checkpoint`.

    From `last.ckpt` of a run, the run's own directory is continued; from any other, a new one is begun.

    Args:
        checkpoint: A file that is there.
        settings: Of this run, as its `config.yaml` would hold them.

    Raises:
        UserError: The file is damaged, or the run was trained with other settings, or has reached its end.
    """
    content = read_checkpoint(checkpoint)
    run = _run_of(checkpoint)
    former = None if run is None else _settings_of(run)
    if former is not None and (changes := list(changed_settings(former, settings))):
        raise UserError(
            f"{checkpoint} was trained with other settings: {'; '.join(changes)}; train on with --config "
            f"{run}/config.yaml, or begin anew from its weights with --model.weights {checkpoint}"
        )
    _check_end(checkpoint, content, settings["trainer"])
    state = content.get("run", {})
    if continued_by(checkpoint) is None or not state:
        return Resume(checkpoint, world_size=state.get("world_size"))
    known = {key: state[key] for key in ("logged", "ended", "world_size")}
    return Resume(checkpoint, run, **known, ckpt_path=former.get("ckpt_path"))


def last_checkpoint(root: Path, name: str, settings: Mapping[str, Any]) -> tuple[Path, dict[Path, str]]:
    """Return the newest whole checkpoint of the runs of a recipe that had these settings.

    Args:
        root: `trainer.default_root_dir`.
        name: Of the recipe, as its runs share it.
        settings: Of this run.

    Returns:
        The checkpoint, and what is wrong with each damaged file that was passed over. Where no run had these settings,
        it is that of the newest run, and `resume_from` tells what changed.

    Raises:
        UserError: There is none.
    """
    folders = {path.parent for file in _NEWEST for path in (root / name).glob(f"*/checkpoints/{file}") if _run_of(path)}
    newest = sorted(folders, key=_time, reverse=True)
    same = [path for path in newest if not any(changed_settings(_settings_of(path.parent), settings))]
    damaged: dict[Path, str] = {}
    for folder in same or newest:
        path, reasons = last_whole(folder)
        damaged |= reasons
        if path is not None:
            return path, damaged
    wrong = "".join(f"; {path} is damaged: {reason}" for path, reason in damaged.items())
    raise UserError(f"--ckpt_path last: no {LAST} to train on from in {root}/{name}/*/checkpoints{wrong}")


def _time(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder / file for file in _NEWEST) if path.is_file())


def changed_settings(former: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield each setting that changes what is learned, with its former and its present value."""
    before, now = dict(_flat(former)), dict(_flat(settings))
    for key, value in before.items():
        if key not in _MAY_CHANGE and key in now and now[key] != value:
            yield f"{key} {_shown(value)}, now {_shown(now[key])}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys as a user types them, and their values; what has keys of any name is one value."""
    for name, value in settings.items():
        if name == "init_args":
            yield from _flat(value, prefix)
        elif isinstance(value, Mapping) and not name.endswith(("_args", "_kwargs")):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("\n...")


def _processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"


def _run_of(checkpoint: Path) -> Path | None:
    """Return the directory of the run that a checkpoint lies in."""
    run = checkpoint.parent.parent
    return run if checkpoint.parent.name == "checkpoints" and (run / "config.yaml").is_file() else None


def _settings_of(run: Path) -> dict[str, Any]:
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise UserError(f"{run}/config.yaml is no config: it holds no settings")
    return settings


def _check_end(checkpoint: Path, content: Mapping[str, Any], trainer: Mapping[str, Any]) -> None:
    """Refuse to go on where nothing is left to do."""
    loop = content.get("loops", {}).get("fit_loop")
    if loop is None or loop["epoch_progress"]["current"]["ready"] != loop["epoch_progress"]["current"]["completed"]:
        return
    epochs, steps = trainer["max_epochs"], trainer["max_steps"]
    done = loop["epoch_progress"]["current"]["completed"]
    if (epochs not in (None, -1) and done >= epochs) or (steps != -1 and content["global_step"] >= steps):
        raise UserError(
            f"{checkpoint} has reached the end of training already (trainer.max_epochs {epochs}, trainer.max_steps "
            f"{steps}): raise it to train on"
        )
