"""Several pairs compared: from Python in this process, from the command line each in its own, one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from cnnbench.compare.apart import Pair, compare_apart
from cnnbench.compare.environment import environment
from cnnbench.compare.finished import FinishedComparisons
from cnnbench.compare.pair import RUNS, compare_specs
from cnnbench.compare.result import Comparison, Report
from cnnbench.compare.settings import USUAL_CHECKS, Settings
from cnnbench.compare.sides import Spec, side
from cnnbench.errors import UserError, did_you_mean


def compare_models(
    models: Sequence[Spec], against: Spec | None, checks: Sequence[str] | None, settings: Mapping[str, Any]
) -> Report:
    """Do what `cnnbench.compare(*models, against=against, checks=checks, **settings)` promises; see there.

    Raises:
        UserError: There is no model, a setting is wrong, or the only pair cannot be compared.
    """
    if not models:
        raise UserError("name at least one model to compare")
    if against is None and len(models) > 1 and not any(isinstance(model, str) for model in models):
        names = " and ".join(side(model).label for model in models)
        raise UserError(f"{names} have no references of their own: to hold one against another, compare(a, against=b)")
    if isinstance(checks, str):
        raise UserError(f"checks is {checks!r}, but must be a list, such as ['parity', 'cost']")
    known = [item.name for item in fields(Settings)]
    for name in settings:
        if name not in known:
            raise UserError(f"unknown setting {name!r}{did_you_mean(name, ['against', *known])}")
    chosen = Settings(checks=tuple(checks or USUAL_CHECKS), **settings)
    comparisons = [compare_specs(model, against, chosen) for model in models]
    if len(models) == 1 and comparisons[0].error is not None:
        raise UserError(comparisons[0].error)
    return Report(settings_environment(chosen), None, comparisons)


class Watcher:
    """Is told how a session goes on; this one says nothing."""

    def begins(self, total: int, kept: int) -> None:
        """A session of `total` pairs begins, of which `kept` were finished by an earlier one."""

    def doing(self, pair: Pair, check: str) -> None:
        """A check of a pair begins."""

    def finished(self, comparison: Comparison) -> None:
        """A pair is finished."""


def compare_pairs(
    pairs: Sequence[Pair],
    settings: Settings,
    *,
    apart: bool,
    output: Path | None = None,
    wandb: str = "disabled",
    watcher: Watcher | None = None,
) -> list[Comparison]:
    """Compare pairs one after the other: what is timed shares the machine with nothing else.

    Args:
        pairs: Names.
        settings: What is compared, and how.
        apart: Whether each pair has a process of its own.
        output: Where finished pairs are kept, and found again; None: nowhere.
        wandb: Weights & Biases of training duels.
        watcher: Is told how it goes on.

    Returns:
        A comparison a pair, in their order.

    Raises:
        KeyboardInterrupt: The user stopped; the message says how to go on.
    """
    watcher = watcher or Watcher()
    kept = None if output is None else FinishedComparisons(output / "pairs", settings, settings_environment(settings))
    found = {} if kept is None else {pair: known for pair in pairs if (known := kept.load(pair)) is not None}
    watcher.begins(len(pairs), len(found))
    runs = RUNS if output is None else output / "training"
    try:
        for pair in pairs:
            if pair not in found:
                found[pair] = _compared(pair, settings, apart, runs, wandb, watcher)
                if kept is not None:
                    kept.save(pair, found[pair])
                watcher.finished(found[pair])
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_how_to_go_on(len(found), len(pairs), output)) from None
    return [found[pair] for pair in pairs]


def settings_environment(settings: Settings) -> dict[str, Any]:
    """Return the environment of a report: the machine, the versions, and the settings that were measured with."""
    measured = asdict(settings) | {"threads": settings.threads or torch.get_num_threads()}
    return environment(**{key: value for key, value in measured.items() if key != "checks"})


def _compared(pair: Pair, settings: Settings, apart: bool, directory: Path, wandb: str, watcher: Watcher) -> Comparison:
    def tell(check: str, known: Comparison) -> None:
        watcher.doing(pair, check)

    if apart:
        return compare_apart(pair, settings, directory=directory, wandb=wandb, tell=tell)
    return compare_specs(pair.model, pair.against, settings, directory=directory, wandb=wandb, tell=tell)


def _how_to_go_on(finished: int, total: int, output: Path | None) -> str:
    if output is None:
        return "stopped; with --output DIR finished models are kept, and the same command goes on"
    return f"stopped; {finished} of {total} models are kept in {output}, and the same command goes on"
