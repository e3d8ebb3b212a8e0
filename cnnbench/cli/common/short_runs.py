"""What `fit` does instead of training where it is asked to: find a learning rate or a batch size, profile a step."""

import csv
from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jsonargparse import ActionYesNo, Namespace
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.tuner import Tuner
from matplotlib.figure import Figure

from cnnbench.callbacks.atomic import written_whole
from cnnbench.callbacks.profile import StepProfiler
from cnnbench.errors import UserError
from cnnbench.tasks.recipe.parser import Parser
from cnnbench.tasks.steps import images_per_step

if TYPE_CHECKING:
    from cnnbench.cli.fit import FitCLI

_RATES = 100  # learning rates to try, a step each
_AROUND = 5  # rates on either side, whose losses a mean takes in: single batches differ
_SMOOTHING = 0.98  # of the losses that Lightning keeps
_FEWEST = 2 * _AROUND + 3  # losses that tell a slope
_LARGEST = 8192  # images a batch: Lightning's own limit
_PROFILED = {"warmup": 10, "timed": 50, "traced": 5}  # batches
_STEPS_A_SIZE = 3  # steps with each batch size
_NEVER = 10**9  # epochs


def add_options(parser: Parser) -> None:
    """Add `--find_lr`, `--find_batch_size` and `--profile`."""
    for name, text in (
        ("find_lr", "Do not train: try 100 rising learning rates, and suggest one."),
        ("profile", "Do not train: time the phases of 50 steps, and write a trace of 5."),
    ):
        parser.add_argument(f"--{name}", action=ActionYesNo, nargs="?", default=False, help=text)
    parser.add_argument(
        "--find_batch_size",
        type=Literal["power", "binsearch"] | None,
        default=None,
        help="Do not train: find the largest batch that memory takes, of powers of 2 or of any size.",
    )


def take_choice(settings: Namespace) -> tuple[str, Any] | None:
    """Remove the options of this module from the settings, which the run's config.yaml keeps without them.

    Returns:
        Name and value of the option that was given, None where none was.

    Raises:
        UserError: There are several, or it does not go with another setting.
    """
    given = [(name, value) for name in SHORT_RUNS if (value := settings.pop(name, None))]
    if not given:
        return None
    name, _ = given[0]
    if len(given) > 1:
        raise UserError(f"--{name} and --{given[1][0]} exclude each other")
    for other, value in (("ckpt_path", settings.ckpt_path), ("trainer.fast_dev_run", settings.trainer.fast_dev_run)):
        if value:
            raise UserError(f"--{name} does not go with {other}: leave it out")
    return given[0]


def trainer_settings(name: str, accumulated: int, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Return the settings of the Trainer that a short run has its own way.

    Args:
        name: Of its option.
        accumulated: Batches a step.
        callbacks: Those of the recipe.
    """
    settings = {
        "max_epochs": -1,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
    }
    unvalidated = {"check_val_every_n_epoch": _NEVER, "val_check_interval": 1.0}
    if name == "find_lr":
        return settings | unvalidated | {"max_steps": _RATES}
    if name == "profile":
        return settings | unvalidated | {"max_steps": ceil((sum(_PROFILED.values()) + 1) / accumulated)}
    return settings | {"max_steps": _STEPS_A_SIZE, "accumulate_grad_batches": 1}


def find_lr(cli: "FitCLI", asked: bool) -> None:
    """Print the learning rate at which the loss falls fastest, and write the losses at all of them.

    The range test of Smith 2017, "Cyclical Learning Rates for Training Neural Networks", by Lightning's `Tuner`.

    Raises:
        UserError: The loss fell nowhere, or was not finite often enough to tell.
    """
    tuner = Tuner(cli.trainer)
    finder = tuner.lr_find(cli.model, datamodule=cli.datamodule, num_training=_RATES, update_attr=False)
    losses = _of_batches(finder.results["loss"])
    means, steepest = _steepest(losses)
    if steepest is None:
        why = f"finite in {len(means)} of {_RATES} steps" if len(means) < _FEWEST else "nowhere falling"
        raise UserError(f"no learning rate to suggest: the loss was {why}")
    suggestion = finder.results["lr"][steepest]
    table, plot = cli.directory / "lr_find.csv", cli.directory / "lr_find.png"
    if cli.trainer.is_global_zero:
        with written_whole(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("lr", "loss"))
            writer.writerows(zip(finder.results["lr"], losses, strict=True))
        _plot(finder.results["lr"], means, steepest).savefig(plot)
    base = cli.model.optim.base_batch_size
    lr = suggestion if base is None else suggestion * base / images_per_step(cli.trainer)
    option = f"--model.optim.lr {lr:.3g}" + ("" if base is None else f"  (for base_batch_size {base})")
    found = f"{suggestion:.3g}, where the loss falls fastest: {option}"
    cli.say(**{"learning rate": found, "losses": f"{table}, {plot}"})


def _of_batches(smoothed: Sequence[float]) -> np.ndarray:
    """Return the loss of each batch, of Lightning's exponential means over them, which begin at half of the first."""
    steps = np.arange(1, len(smoothed) + 1)
    sums = np.array(smoothed) * (1 - _SMOOTHING ** (steps + 1))  # it corrects the bias of a step too many
    return (sums - _SMOOTHING * np.append(0.0, sums[:-1])) / (1 - _SMOOTHING)


def _steepest(losses: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Return the mean losses while they are finite, and where they fall fastest with the logarithm of the rate.

    Lightning's own suggestion is by the rate itself, whose differences are smallest, and slopes steepest, where it
    begins.
    """
    finite = losses[: np.argmin(np.append(np.isfinite(losses), False))]
    if len(finite) < _FEWEST:
        return finite, None
    window = 2 * _AROUND + 1
    means = np.convolve(np.pad(finite, _AROUND, mode="edge"), np.full(window, 1 / window), mode="valid")
    end = int(np.argmin(means)) + 1  # a fall from a leap upwards is none
    slopes = np.gradient(means[:end]) if end > 1 else np.zeros(1)
    steepest = int(np.argmin(slopes))
    return means, steepest if slopes[steepest] < 0 else None


def _plot(rates: Sequence[float], means: np.ndarray, steepest: int) -> Figure:
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.semilogx(rates[: len(means)], means)
    axes.plot(rates[steepest], means[steepest], "o", color="tab:red")
    fallen = means[0] - means[steepest:].min()
    axes.set_ylim(means.min() - 0.2 * fallen, means[0] + fallen)  # what a loss leaps to would hide how it fell
    axes.set(xlabel="learning rate", ylabel=f"loss, mean of {2 * _AROUND + 1} batches")
    return figure


def find_batch_size(cli: "FitCLI", mode: str) -> None:
    """Print the largest batch that training takes without running out of memory, by Lightning's `Tuner`."""
    data = cli.datamodule
    data.prepare_data()
    data.setup("fit")
    images = len(data.datasets["train"])
    limit = min(images, _LARGEST)
    data.batch_size = data.hparams.batch_size = 1  # the recipe's may be too large to begin with

    def search(**options: Any) -> int:
        return Tuner(cli.trainer).scale_batch_size(cli.model, datamodule=data, steps_per_trial=_STEPS_A_SIZE, **options)

    if mode == "power":  # as many doublings as there are images for
        found = search(mode="power", max_trials=max(1, limit.bit_length() - 1), max_val=limit + 1)
        is_limit = 2 * found > limit
    else:
        found = search(mode="binsearch", margin=0.0, max_val=limit)
        if found == limit:  # which Lightning takes for granted
            found = search(mode="power", init_val=limit, max_trials=1, max_val=limit + 1)
        is_limit = found == limit
    why = f"; memory may take more, but {limit:,} images are the limit" if is_limit else ""
    cli.say(**{"batch size": f"{found}: --data.batch_size {found}{why}", "run": str(cli.directory)})


def profile(cli: "FitCLI", asked: bool) -> None:
    """Print where the time of a training step goes, and write a trace of some."""
    trace = cli.directory / "trace.json"
    profiler = StepProfiler(trace, cli.trainer.strategy.root_device, **_PROFILED)
    cli.trainer.profiler = profiler
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    rows = {phase: f"{milliseconds:9.3f} ms {share:7.1%}" for phase, milliseconds, share in profiler.table()}
    cli.say(**rows, trace=f"{trace}  (chrome://tracing, https://ui.perfetto.dev)")


# Option -> what it does.
SHORT_RUNS: dict[str, Callable[["FitCLI", Any], None]] = {
    "find_lr": find_lr,
    "find_batch_size": find_batch_size,
    "profile": profile,
}
