"""Each side at its best, as it would be deployed, and what that costs in accuracy."""

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.optim.swa_utils import update_bn

from cnnbench.compare.contest import contest
from cnnbench.compare.folding import fold_batch_norm
from cnnbench.compare.result import Contest, Estimate, Served
from cnnbench.compare.settings import Settings
from cnnbench.compare.sides import tensors_of
from cnnbench.compare.statistics import estimate
from cnnbench.compare.timing import interleaved
from cnnbench.compare.workload import Workload, running
from cnnbench.errors import UserError

TRIAL = 1.0  # seconds to find out whether an option helps
WORTH = 1.01  # the gain from which on it is taken
HALF = {"32-true": "bf16-mixed"}  # the precision to try for each


@dataclass(frozen=True)
class _Plan:
    """How a network is prepared.

    Attributes:
        settings: Its device, precision, memory format and compilation.
        folded: Whether norms are folded into convolutions.
    """

    settings: Settings
    folded: bool = False

    def options(self) -> dict[str, "_Plan"]:
        """Return what may be switched on beyond this, by name; the slowest to prepare comes last."""
        settings = self.settings
        found = {}
        if not self.folded:
            found["folded BatchNorm"] = replace(self, folded=True)
        if not settings.channels_last:
            found["channels_last"] = replace(self, settings=replace(settings, channels_last=True))
        if settings.precision in HALF:
            found["bf16"] = replace(self, settings=replace(settings, precision=HALF[settings.precision]))
        if not settings.compile:
            found["torch.compile"] = replace(self, settings=replace(settings, compile=True))
        return found

    def prepare(self, workload: Workload) -> Workload:
        """Prepare a copy of a workload so, and run it once."""
        copy = fold_batch_norm(workload.network) if self.folded else deepcopy(workload.network)
        prepared = Workload(workload.label, copy, workload.images, self.settings)
        prepared.try_once("forward")
        return prepared


def measure_served(ours: Workload, theirs: Workload, settings: Settings) -> tuple[tuple[Served, Served], Contest]:
    """Find what makes each side fastest in evaluation, and time both so against each other.

    Tried one after the other, each on top of what has helped before: BatchNorm folded into convolutions, channels_last,
    bf16 by autocast, torch.compile. What gains less than 1 % is left out; what cannot be done is named with the reason.
    Norms are given weights and statistics as of a trained network, for an untrained one hides what rounding does.

    Args:
        ours: One side; it is left as it is.
        theirs: The other, with the same images.
        settings: What both are prepared with otherwise; `seconds` are taken for each gain and for the contest.

    Returns:
        What was found of ours and of theirs, and the contest between them.
    """
    torch.compiler.reset()
    trained = [_as_trained(one, settings) for one in (ours, theirs)]
    (our_plan, our_best), (their_plan, their_best) = [_best(one, settings) for one in trained]
    contestants = [our_plan.prepare(trained[0]), their_plan.prepare(trained[1]), their_plan.prepare(trained[1])]
    return (our_best, their_best), contest(contestants, "forward", settings)


def _best(workload: Workload, settings: Settings) -> tuple[_Plan, Served]:
    plan = _Plan(settings)
    plain = best = plan.prepare(workload)
    taken, impossible = [], []
    for name in plan.options():
        candidate = plan.options()[name]
        try:
            prepared = candidate.prepare(workload)
        except UserError as error:
            impossible.append(f"no {name}: {error}")
            continue
        if _compared(best, prepared, TRIAL, settings.seed)[0].median >= WORTH:
            plan, best = candidate, prepared
            taken.append(name)
    gain, images_per_second = _compared(plain, best, settings.seconds, settings.seed)
    options = "; ".join([", ".join(taken) or "as it was", *impossible])
    return plan, Served(options, images_per_second, gain, _relative_error(workload, best))


def _compared(one: Workload, other: Workload, seconds: float, seed: int) -> tuple[Estimate, float]:
    """Return the time of one over the other's, and the other's images a second."""
    timings = interleaved([one.ready("forward"), other.ready("forward")], one.device, seconds, seed)
    of_one, of_other = timings.wall.T
    return estimate(of_one / of_other), float(len(other.images) / np.median(of_other))


def _as_trained(workload: Workload, settings: Settings) -> Workload:
    """Return a copy whose norms scale and shift, and know the statistics of the images."""
    network, generator = deepcopy(workload.network), torch.Generator().manual_seed(settings.seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                draws = torch.rand(parameter.shape, generator=generator)
                parameter.copy_(draws - 0.5 if name.endswith("bias") else draws + 0.5)
    prepared = Workload(workload.label, network, workload.images, settings)
    with running(workload.label, workload.images):
        update_bn([prepared.images], network)
    return prepared


def _relative_error(workload: Workload, served: Workload) -> float:
    """Return how far the outputs as served are from those in float64, relative to the largest of each."""
    device = torch.device("cpu") if workload.device.type == "mps" else workload.device  # which has no float64
    exact = deepcopy(workload.network).to(device, torch.float64).eval()
    with torch.inference_mode():
        expected = tensors_of(exact(workload.images.to(device, torch.float64)))
    pairs = zip(served.forward(), expected, strict=True)
    return max(float((found.to(device) - right).abs().max() / right.abs().max()) for found, right in pairs)
