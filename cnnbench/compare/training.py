"""The training duel: both sides trained by one recipe, from the same weights, on the same batches, for each seed."""

import logging
import math
import os
import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.seed import isolate_rng
from scipy.stats import t as students_t
from torch import nn

from cnnbench.callbacks.tracking import WandbMode
from cnnbench.compare.recipe import Recipe
from cnnbench.compare.result import Duel, Estimate, MetricSummary, Training
from cnnbench.compare.settings import Settings
from cnnbench.compare.sides import Side
from cnnbench.compare.training_pair import Exchange, TrainingPair, load_same_keys
from cnnbench.compare.training_run import Run, RunPlan, finished_run
from cnnbench.errors import UserError
from cnnbench.tasks.recipe.quiet import LOGGERS, quieten

_CONFIDENCE = 0.95
_HEADLINES = ("test/accuracy", "val/accuracy")  # the first that there is stands in the verdict


def train_duels(
    ours: Side,
    theirs: Side,
    settings: Settings,
    directory: Path,
    wandb: WandbMode = "disabled",
    exchange: Exchange = load_same_keys,
) -> Training:
    """Train both sides by `settings.config`, once for each of the seeds `settings.seed`, `settings.seed` + 1, ...

    Everything is as `fit` would have it by this recipe: the task, the data and its augmentation, the Trainer's
    callbacks, the draws of dropout and drop path; but on one device, in the precision of `settings`, and with the
    networks of the two sides. The figures are of the final weights, not of the best that validation has seen. On an
    accelerator the deterministic algorithms are taken, where there are some.

    `settings.steps` makes the run shorter, and the learning rate's schedule with it: it comes to its end, so that the
    figures are of a finished training, though not of the beginning of the whole one.

    The difference of a figure is the mean of ours minus theirs over the seeds, with Student's 95 % interval of paired
    differences; of a single seed nothing is known of the spread, so that its standard deviation is nan and its interval
    infinite. The time of a step is of forward, loss, backward and update; the two sides run one after the other, so
    that it says less than `speed`, which interleaves them.

    Args:
        ours: One side, whose initial weights both have.
        theirs: The other.
        settings: With `config`, `seeds`, `seed`, `steps`, `device`, `precision`, `threads`, `compile`, `channels_last`.
        directory: Where finished runs are kept, which another call does not train again; one that was interrupted
            begins anew. Several comparisons can share it.
        wandb: Mode of W&B, as of `fit`; all runs of one comparison are in one group.
        exchange: Copies the weights of its first network into its second.

    Raises:
        UserError: There is no such recipe, it is not one of classification, its data is missing, or a network does
            not fit it.
        KeyboardInterrupt: The user stopped it.
    """
    if settings.config is None:
        raise UserError("the training check needs a recipe: `config=configs/resnet18.yaml`")
    recipe = Recipe.read(Path(settings.config)).with_model(**_switched_on(settings))
    with _as_set(settings), isolate_rng():
        pair = TrainingPair(ours, theirs, recipe, exchange)
        group = f"{ours.label} against {theirs.label}"
        builders = {"ours": (ours.label, pair.build_ours), "theirs": (theirs.label, pair.build_theirs)}

        def run(role: str, seed: int) -> Run:
            label, build = builders[role]
            plan = RunPlan(pair.recipe, settings, label, role, seed, directory, wandb, group)
            return _seeded_run(plan, build)

        seeds = range(settings.seed, settings.seed + settings.seeds)
        duels = [_duel(seed, *(run(role, seed) for role in builders)) for seed in seeds]
    metrics = _summaries(duels)
    return Training(settings.config, duels, metrics, _verdict(duels, metrics) + _left_out(pair.left_out))


def _switched_on(settings: Settings) -> dict[str, bool]:
    return {name: True for name in ("compile", "channels_last") if getattr(settings, name)}


def _seeded_run(plan: RunPlan, build: Callable[[], nn.Module]) -> Run:
    """Build and train under the seed, which Lightning, the task and the data take from the environment."""
    before = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    seed_everything(plan.seed, workers=True, verbose=False)
    try:
        return finished_run(plan, build())
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _as_set(settings: Settings) -> Iterator[None]:
    """Within, torch has the threads of `settings` and Lightning is silent; afterwards all is as it was."""
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    benchmark = torch.backends.cudnn.benchmark
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    torch.set_num_threads(settings.threads or threads)
    try:
        with warnings.catch_warnings():
            quieten()
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(deterministic)
        torch.backends.cudnn.benchmark = benchmark
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _duel(seed: int, ours: Run, theirs: Run) -> Duel:
    differences = [_difference(*pair) for pair in zip_longest(ours.losses, theirs.losses, fillvalue=math.inf)]
    different = [step for step, difference in enumerate(differences, start=1) if difference > 0]
    return Duel(
        seed=seed,
        steps=len(differences),
        first_different_step=different[0] if different else None,
        largest_difference=max(differences),
        losses=(ours.losses, theirs.losses),
        metrics={name: (value, theirs.metrics[name]) for name, value in ours.metrics.items()},
        seconds_per_step=(ours.seconds_per_step, theirs.seconds_per_step),
    )


def _difference(ours: float, theirs: float) -> float:
    """Return how far two losses are apart; two that are nan are the same, and one alone is infinitely far."""
    if ours == theirs or (math.isnan(ours) and math.isnan(theirs)):
        return 0.0
    difference = abs(ours - theirs)
    return math.inf if math.isnan(difference) else difference


def _summaries(duels: list[Duel]) -> list[MetricSummary]:
    return [_summary(name, [duel.metrics[name] for duel in duels]) for name in duels[0].metrics]


def _summary(name: str, pairs: list[tuple[float, float]]) -> MetricSummary:
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    return MetricSummary(name, _mean_and_std(ours), _mean_and_std(theirs), _paired([a - b for a, b in pairs]))


def _mean_and_std(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def _paired(differences: list[float]) -> Estimate:
    """Return the mean with Student's interval."""
    mean, std = _mean_and_std(differences)
    if len(differences) == 1:
        return Estimate(mean, -math.inf, math.inf)
    half = students_t.ppf((1 + _CONFIDENCE) / 2, len(differences) - 1) * std / math.sqrt(len(differences))
    return Estimate(mean, float(mean - half), float(mean + half))


def _verdict(duels: list[Duel], metrics: list[MetricSummary]) -> str:
    parted = [duel for duel in duels if duel.first_different_step is not None]
    seeds = f"{len(duels)} seed{'s' if len(duels) > 1 else ''}"
    if not parted:
        return f"identical losses in all {duels[0].steps} steps of {seeds}{_not_a_number(duels)}"
    first = min(parted, key=lambda duel: duel.first_different_step)
    ours, theirs = (losses[first.first_different_step - 1 :][:1] for losses in first.losses)
    by = f" by {_difference(ours[0], theirs[0]):.1g}" if ours and theirs else ", where one run ends"
    among = "" if len(parted) == len(duels) else f" (in {len(parted)} of {seeds})"
    return f"losses part at step {first.first_different_step}{by}{among}; {_headline(metrics)}"


def _not_a_number(duels: list[Duel]) -> str:
    """Say so where both sides diverge alike: from there on identical losses show nothing."""
    steps = [step for duel in duels for step, loss in enumerate(duel.losses[0], start=1) if math.isnan(loss)]
    return f", but nan from step {min(steps)}" if steps else ""


def _headline(metrics: list[MetricSummary]) -> str:
    summary = next(summary for name in _HEADLINES for summary in metrics if summary.name == name)
    points = summary.difference
    interval = f"[{100 * points.low:.1f}, {100 * points.high:.1f}]" if math.isfinite(points.low) else "(one seed)"
    return f"{summary.name} differs by {100 * points.median:.1f} points {interval}"


def _left_out(names: dict[str, str]) -> str:
    return "".join(f"; without {name}, which {label} does not take" for name, label in names.items())
