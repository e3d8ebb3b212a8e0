"""One pair compared: the checks that were asked for, in their order."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cnnbench.compare.probe import check_comparable
from cnnbench.compare.published import PUBLISHED
from cnnbench.compare.result import Comparison, Cost, Memory, Parity, Speed, Training
from cnnbench.compare.settings import CHECKS, Settings
from cnnbench.compare.sides import Side, Spec, image_size, parity_image_size, reference_of, side
from cnnbench.compare.workload import threads
from cnnbench.errors import UserError
from cnnbench.models import model_info
from cnnbench.models.registry import is_registered

Tell = Callable[[str, Comparison], None]
"""Called with a check's name before it begins, and with what is known of the pair by then."""

BUILDING = "building"  # what is done before the first check
RUNS = Path("runs/compare")  # of training duels, where no directory is named


def compare_specs(
    model: Spec,
    against: Spec | None,
    settings: Settings,
    *,
    directory: Path = RUNS,
    wandb: str = "disabled",
    tell: Tell | None = None,
    begun: Comparison | None = None,
) -> Comparison:
    """Compare what two names, modules or callables stand for.

    Args:
        model: One side, as `cnnbench.compare.sides.side` takes it.
        against: The other; None: the reference of the registry.
        settings: What is compared, and how.
        directory: Where training duels keep their runs.
        wandb: Weights & Biases of training duels: "auto", "online", "offline" or "disabled".
        tell: Called before each check.
        begun: What an earlier process found before it ended; its checks are not made again.

    Returns:
        What was found; a mistake of the user is its `error`.
    """
    comparison = begun or Comparison(label(model), "" if against is None else label(against), **_known(model, settings))
    try:
        ours, theirs = sides_of(model, against, settings.num_classes)
    except UserError as error:
        return replace(comparison, error=str(error))
    comparison = replace(comparison, model=ours.label, reference=theirs.label)
    with threads(settings.threads):
        return compare_pair(ours, theirs, settings, directory=directory, wandb=wandb, tell=tell, begun=comparison)


def compare_pair(
    ours: Side,
    theirs: Side,
    settings: Settings,
    *,
    directory: Path = RUNS,
    wandb: str = "disabled",
    tell: Tell | None = None,
    begun: Comparison | None = None,
) -> Comparison:
    """Compare two sides; see `compare_specs`."""
    comparison = begun or Comparison(ours.label, theirs.label)
    tell = tell or (lambda check, known: None)
    try:
        tell(BUILDING, comparison)
        if settings.checks != ("training",):  # whose recipe sets size and classes
            check_comparable(ours, theirs, parity_image_size(ours, theirs, settings.image_size))
        for check in CHECKS:
            if check in settings.checks and getattr(comparison, check) is None:
                tell(check, comparison)
                found = _MEASURES[check](ours, theirs, _as_timed(settings, check, comparison), directory, wandb)
                comparison = replace(comparison, **{check: found})
    except UserError as error:
        return replace(comparison, error=str(error))
    except SystemExit as left:  # raised by a user's function, which would end the whole session
        return replace(comparison, error=f"{ours.label} or {theirs.label} calls sys.exit({left.code!r})")
    return comparison


def sides_of(model: Spec, against: Spec | None, num_classes: int | None = None) -> tuple[Side, Side]:
    """Return both sides of a pair, see `compare_specs`; nothing is built yet.

    Raises:
        UserError: One does not exist, or the model has no reference.
    """
    return side(model, num_classes), reference_of(model, num_classes) if against is None else side(against, num_classes)


def label(spec: Spec) -> str:
    """Return what a side is called before it is looked for."""
    if isinstance(spec, str):
        return spec
    return type(spec).__name__ if isinstance(spec, torch.nn.Module) else getattr(spec, "__qualname__", repr(spec))


def _as_timed(settings: Settings, check: str, known: Comparison) -> Settings:
    """Return the settings of a check: memory is measured on the images that were timed, where some were."""
    if check != "memory" or known.speed is None:
        return settings
    return replace(settings, batch_size=known.speed.batch_size, image_size=known.speed.image_size)


def _known(model: Spec, settings: Settings) -> dict[str, Any]:
    """Return what registry and papers know of a model; papers, of its own image size and number of classes."""
    name = model.removeprefix("cnnbench/") if isinstance(model, str) else ""
    if not is_registered(name) or "/" in name or ":" in name:
        return {}
    info = model_info(name)
    as_stated = settings.image_size is None and settings.num_classes is None
    published = PUBLISHED.get(info.name) if as_stated else None
    return {"top1": info.top1, "year": info.paper.year, "published": published}


# The modules of the checks are imported when they are needed: that of training brings Lightning with it.


def _parity(ours: Side, theirs: Side, settings: Settings, directory: Path, wandb: str) -> Parity:
    from cnnbench.compare.parity import check_parity

    size = parity_image_size(ours, theirs, settings.image_size)
    device = settings.device if settings.device.startswith("cuda") else "cpu"  # "mps" knows no float64
    return check_parity(ours, theirs, size, seed=settings.seed, device=device)


def _cost(ours: Side, theirs: Side, settings: Settings, directory: Path, wandb: str) -> Cost:
    from cnnbench.compare.cost import measure_cost

    return measure_cost(ours, theirs, image_size(ours, theirs, settings.image_size))


def _speed(ours: Side, theirs: Side, settings: Settings, directory: Path, wandb: str) -> Speed:
    from cnnbench.compare.speed import measure_speed

    sizes = (choose(ours, theirs, settings.image_size) for choose in (image_size, parity_image_size))
    return measure_speed(ours, theirs, next(sizes), settings, smaller=next(sizes))


def _memory(ours: Side, theirs: Side, settings: Settings, directory: Path, wandb: str) -> Memory:
    from cnnbench.compare.memory import measure_memory

    return measure_memory(ours, theirs, image_size(ours, theirs, settings.image_size), settings)


def _training(ours: Side, theirs: Side, settings: Settings, directory: Path, wandb: str) -> Training:
    from cnnbench.compare.converted import copy_aligned
    from cnnbench.compare.training import train_duels

    return train_duels(ours, theirs, settings, directory, wandb, exchange=copy_aligned)


_MEASURES = {"parity": _parity, "cost": _cost, "speed": _speed, "memory": _memory, "training": _training}
