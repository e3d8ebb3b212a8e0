"""Which of two networks is faster, as far as the machine can tell."""

import logging
import time
from copy import deepcopy

import torch
from torch import nn

from cnnbench.compare.contest import contest
from cnnbench.compare.result import Speed
from cnnbench.compare.served import measure_served
from cnnbench.compare.settings import Settings
from cnnbench.compare.sides import Side
from cnnbench.compare.timing import LEAST_ROUNDS
from cnnbench.compare.workload import Workload, build_seeded, random_images, threads, with_enough_memory

FEWEST = 2  # images at a time: batch norm of a single number is undefined
OVERTIME = 2  # a contest may take so many times the seconds that it is given, before it gets fewer images
_log = logging.getLogger(__name__)


def measure_speed(ours: Side, theirs: Side, size: tuple[int, int, int], settings: Settings) -> Speed:
    """Time forward and train step of both sides in turns, with theirs against its own copy as a control.

    A train step is forward, backward from the sum of all outputs' losses, and an update by SGD with momentum. Where
    memory is not enough, or 7 rounds would take over twice `settings.seconds`, fewer images are taken at a time: the
    result has their number, and a warning is logged.

    Args:
        ours: One network.
        theirs: The other; its time over ours is the speedup.
        size: Channels, height and width of the images.
        settings: All but checks, image_size, num_classes and those of the training duel count. `served` takes minutes a
            network, most of them for `torch.compile`.

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
        contestants = _contestants((ours.label, theirs.label), networks, size, settings)
        kinds = ("forward", "train_step") if all(one.optimizer for one in contestants) else ("forward",)
        batch_size = _affordable(contestants, kinds[-1], settings)
        contests = {kind: contest(contestants, kind, settings) for kind in kinds}
        served, served_contest = measure_served(*contestants[:2], settings) if settings.served else (None, None)
    return Speed(batch_size, contests["forward"], contests.get("train_step"), served, served_contest)


def _share_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Give both the same weights where one's state dict fits the other."""
    state = ours.state_dict()
    shapes = {key: tensor.shape for key, tensor in state.items()}
    if shapes == {key: tensor.shape for key, tensor in theirs.state_dict().items()}:
        theirs.load_state_dict(state)


def _contestants(
    labels: tuple[str, str], networks: list[nn.Module], size: tuple[int, int, int], settings: Settings
) -> list[Workload]:
    """Return ours, theirs and a copy of theirs, ready to run."""
    ours, theirs = networks
    images = random_images(size, settings)
    named = zip((*labels, labels[1]), (ours, theirs, deepcopy(theirs)), strict=True)
    return [Workload(label, network, images, settings) for label, network in named]


def _affordable(contestants: list[Workload], kind: str, settings: Settings) -> int:
    """Halve the images at a time until memory suffices and rounds fit the time; return how many they are."""
    images = contestants[0].images

    def seconds_a_round(batch_size: int) -> float:
        for one in contestants:
            one.images = images[:batch_size]
            for tried in dict.fromkeys(("forward", kind)):
                one.try_once(tried)
        start = time.perf_counter()
        for one in contestants:
            one.try_once(kind)
        return time.perf_counter() - start

    seconds, batch_size = with_enough_memory(settings.batch_size, seconds_a_round)
    needed, allowed = seconds * LEAST_ROUNDS, OVERTIME * settings.seconds
    fewer = batch_size
    while fewer // 2 >= FEWEST and needed * fewer / batch_size > allowed:
        fewer //= 2
    if fewer < batch_size:
        label = contestants[0].label
        _log.warning("%s: %d images at a time would take %.0f s, taking %d", label, batch_size, needed, fewer)
        torch.compiler.reset()  # else it compiles for any number of images
        seconds_a_round(fewer)
    return fewer
