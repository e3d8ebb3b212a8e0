"""Which of two networks is faster, as far as the machine can tell."""

import math
import time
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnnbench.compare.affordable import LONGEST, affordable
from cnnbench.compare.contest import contest
from cnnbench.compare.result import Speed
from cnnbench.compare.served import measure_served
from cnnbench.compare.settings import Settings
from cnnbench.compare.sides import Side
from cnnbench.compare.timing import LEAST_ROUNDS
from cnnbench.compare.workload import Workload, build_seeded, random_images, threads

Size = tuple[int, int, int]


def measure_speed(ours: Side, theirs: Side, size: Size, settings: Settings, *, smaller: Size | None = None) -> Speed:
    """Time forward and train step of both sides in turns, with theirs against its own copy as a control.

    A train step is forward, backward from the sum of all outputs' losses, and an update by SGD with momentum. Where
    memory is not enough, or 7 rounds would take longer than `settings.seconds`, fewer images are taken at a time, and
    smaller ones where the fewest would take over three times the seconds: the result has their number and size, and a
    warning is logged.

    Args:
        ours: One network.
        theirs: The other; its time over ours is the speedup.
        size: Channels, height and width of the images.
        settings: All but checks, image_size, num_classes and those of the training duel count. `served` takes minutes a
            network, most of them for `torch.compile`.
        smaller: Images to fall back on, by their size.

    Returns:
        The contests; that of the train step is None where a side has nothing to train, and what concerns the sides "as
        served" unless `settings.served`.

    Raises:
        UserError: A side cannot be built or run, or a single image is too many for the memory.
    """
    with threads(settings.threads):
        torch.compiler.reset()
        networks = [build_seeded(side, settings) for side in (ours, theirs)]
        _share_weights(*networks)
        choices = [random_images(one, settings) for one in dict.fromkeys((size, smaller or size))]
        contestants = _contestants((ours.label, theirs.label), networks, choices[0][:1], settings)
        kinds = ("forward", "train_step") if all(one.optimizer for one in contestants) else ("forward",)
        hopeless = math.inf if settings.compile else 2 * LONGEST * settings.seconds / LEAST_ROUNDS
        measure = partial(_seconds_a_round, contestants, kinds[-1], hopeless)
        images = affordable(choices, _fewest(networks), measure, settings.seconds, ours.label)
        contests = {kind: contest(contestants, kind, settings) for kind in kinds}
        served, served_contest = measure_served(*contestants[:2], settings) if settings.served else (None, None)
    return Speed(len(images), contests["forward"], contests.get("train_step"), served, served_contest, images.shape[-1])


def _share_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Give both the same weights where one's state dict fits the other."""
    state = ours.state_dict()
    shapes = {key: tensor.shape for key, tensor in state.items()}
    if shapes == {key: tensor.shape for key, tensor in theirs.state_dict().items()}:
        theirs.load_state_dict(state)


def _contestants(
    labels: tuple[str, str], networks: list[nn.Module], images: Tensor, settings: Settings
) -> list[Workload]:
    """Return ours, theirs and a copy of theirs, ready to run."""
    ours, theirs = networks
    named = zip((*labels, labels[1]), (ours, theirs, deepcopy(theirs)), strict=True)
    return [Workload(label, network, images, settings) for label, network in named]


def _seconds_a_round(contestants: list[Workload], kind: str, hopeless: float, images: Tensor) -> float:
    """Give all the images, and time one round; where the first run shows that it takes over `hopeless`, guess it."""
    torch.compiler.reset()  # else it compiles for any number of images
    for one in contestants:
        one.images = one.prepared(images)
    for one in contestants:
        for tried in dict.fromkeys(("forward", kind)):
            start = time.perf_counter()
            one.try_once(tried)
            guessed = len(contestants) * (time.perf_counter() - start)
            if guessed > hopeless:
                return guessed
    start = time.perf_counter()
    for one in contestants:
        one.try_once(kind)
    return time.perf_counter() - start


def _fewest(networks: list[nn.Module]) -> int:
    """Return how many images a network needs at least: batch norm of a single number is undefined."""
    return 2 if any(isinstance(module, _BatchNorm) for network in networks for module in network.modules()) else 1
