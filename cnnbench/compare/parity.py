"""Whether two networks compute the same function, measured where wrong networks cannot hide.

At their initial weights wrong networks pass (zero-initialised norms, tiny layer scales), and so do they in float32. So
every parameter and floating-point buffer is randomised, and outputs, every layer's output, gradients and buffers are
compared in float64, in evaluation and in training mode. A wrong network then stands at 1e-6 and above, a right one that
adds in another order at 1e-15.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnbench.compare.divergence import Walk
from cnnbench.compare.entries import Alignment
from cnnbench.compare.numbers import TOLERANCE
from cnnbench.compare.observe import buffer_errors, gradient_errors, observe
from cnnbench.compare.outputs import error, paired
from cnnbench.compare.prepare import Prepared, prepare
from cnnbench.compare.random_draws import draws_difference
from cnnbench.compare.result import Divergence, Errors, Parity, Weights
from cnnbench.compare.seeds import seed_everything, seeded
from cnnbench.compare.sides import CUSTOMARY_SIZE, Side
from cnnbench.compare.trace import trace
from cnnbench.errors import UserError

IMAGES = 3  # at a time: batch norms need several


@dataclass
class _Finding:
    """What one mode showed."""

    walk: Walk
    logits: float
    features: float
    gradients: dict[str, float]
    buffers: dict[str, float]
    draws: int
    lengths: tuple[int, int]
    forms: tuple[str, str]

    @property
    def worst(self) -> float:
        return max(self.logits, self.features, *self.gradients.values(), *self.buffers.values(), 0.0)


def check_parity(ours: Side, theirs: Side, size: tuple[int, int, int], *, seed: int = 0, device: str = "cpu") -> Parity:
    """Compare what two sides compute.

    Args:
        ours: One side.
        theirs: The other.
        size: Channels, height and width of the images.
        seed: Of weights, images and draws.
        device: Where it is computed; it must know float64.

    Raises:
        UserError: A side cannot be built or run on such images, or they put out tensors of different shapes.
    """
    with seeded(seed, torch.device(device)):
        networks = ours.build(), theirs.build()
    return compare_networks(*networks, images(size, seed, device), seed)


def images(size: tuple[int, int, int], seed: int = 0, device: str = "cpu") -> Tensor:
    """Return the random images that networks are compared on, float64."""
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randn(IMAGES, *size, generator=generator, dtype=torch.float64).to(device)


def compare_networks(ours: nn.Module, theirs: nn.Module, images: Tensor, seed: int = 0) -> Parity:
    """Compare two networks with the same random weights on the same images.

    Args:
        ours: A network; it is not changed.
        theirs: What it must equal; it is not changed.
        images: (B, C, H, W), float64, at least two positions a channel left at the last BatchNorm.
        seed: Of the weights, of the direction in which gradients are taken, and of what the networks draw.

    Raises:
        UserError: A network cannot be run on the images.
    """
    with seeded(seed, images.device):
        prepared = prepare(ours, theirs, images, seed)
        findings = {mode: _find(prepared, images, mode, seed) for mode in ("eval", "train")}
        divergence = _divergence(findings)
        weights = _weights(prepared, findings)
        worst = max(finding.worst for finding in findings.values())
        passed = worst <= TOLERANCE and divergence is None and not weights.differences
        judged = passed and findings["train"].draws > 0  # of networks that differ anyway, draws say nothing
        draws = draws_difference(prepared, images, seed) if judged else None
    return Parity(
        passed=passed,
        tolerance=TOLERANCE,
        weights=weights,
        max_relative_error=_errors(findings),
        first_divergence=divergence,
        layers=findings["eval"].walk.layer_errors(),
        same_random_draws=not draws if judged else None,
        draws_difference=draws,
        notes=_notes(findings),
    )


def align(source: nn.Module, target: nn.Module, images: Tensor | None = None) -> Alignment:
    """Align the tensors of two networks by data flow, or by their keys where these are the same.

    Where several alignments are possible, the one with which the networks agree is taken.

    Args:
        source: A network; it is not changed.
        target: Another, of the same architecture under whatever names; it is not changed.
        images: (B, C, H, W) that both take; None: 3 of the size that one of them tells, or of 224 pixels.

    Returns:
        The alignment: `mapping` names the pairs, `convert(source.state_dict(), target.state_dict())` gives weights that
        the target loads.

    Raises:
        UserError: One of them is no network, or cannot be run on the images.
    """
    for name, network in {"source": source, "target": target}.items():
        if not isinstance(network, nn.Module):
            raise UserError(f"{name} is {network!r}, but must be a torch.nn.Module")
    if not isinstance(images, Tensor | None):
        raise UserError(f"images is {images!r}, but must be a tensor (B, C, H, W)")
    images = _usual_images(source, target) if images is None else images
    with seeded(0, images.device):
        return prepare(source, target, images.double()).alignment


def _find(prepared: Prepared, images: Tensor, mode: str, seed: int) -> _Finding:
    training = mode == "train"
    prepared.rewind()
    ours, theirs = (observe(network, images, training, seed) for network in prepared.networks)
    prepared.rewind()
    runs = []
    for network in prepared.networks:
        seed_everything(seed)
        runs.append(trace(network.train(training), images, numbers=True, keep=True))
    walk = Walk.of(*runs, prepared.alignment, mode)
    return _Finding(
        walk=walk,
        logits=max((error(*pair) for pair in paired(ours.outputs, theirs.outputs)), default=0.0),
        features=max((layer.error for layer in walk.layer_errors()), default=0.0),
        gradients=gradient_errors(ours, theirs, prepared.alignment),
        buffers=buffer_errors(ours, theirs, prepared.alignment),
        draws=ours.draws + theirs.draws,
        lengths=(len(ours.outputs), len(theirs.outputs)),
        forms=(ours.form, theirs.form),
    )


def _divergence(findings: dict[str, _Finding]) -> Divergence | None:
    for finding in findings.values():
        if max(finding.logits, finding.features) > TOLERANCE and (found := finding.walk.first_divergence()):
            return found
    if (found := findings["eval"].walk.unlike_piece()) is not None:
        return found
    for finding in findings.values():
        if max(finding.buffers.values(), default=0.0) > TOLERANCE:
            return finding.walk.unlike_buffers(finding.buffers)
        if max(finding.gradients.values()) > TOLERANCE:
            return finding.walk.unlike_gradients(finding.gradients)
    return None


def _errors(findings: dict[str, _Finding]) -> Errors:
    everything = findings.values()
    buffers = [value for finding in everything for value in finding.buffers.values()]
    return Errors(
        logits=max(finding.logits for finding in everything),
        features=max(finding.features for finding in everything),
        gradients=max(value for finding in everything for value in finding.gradients.values()),
        buffers=max(buffers, default=None),
    )


def _weights(prepared: Prepared, findings: dict[str, _Finding]) -> Weights:
    alignment = prepared.alignment
    differences = list(alignment.differences)
    for mode, finding in findings.items():
        ours, theirs = finding.lengths
        if ours != theirs:
            when = {"eval": "evaluation", "train": "training"}[mode]
            differences.append(
                f"in {when} ours puts out {_tensors(ours)}, theirs {theirs}: only the first are compared"
            )
    counts = (len(network.state_dict()) for network in prepared.networks)
    return Weights(alignment.method, len(alignment.entries), *counts, differences)


def _notes(findings: dict[str, _Finding]) -> list[str]:
    """Tell of equal tensors that are returned in different forms."""
    forms = {finding.forms for finding in findings.values() if finding.lengths[0] == finding.lengths[1]}
    return [f"ours returns {ours}, theirs {theirs}" for ours, theirs in sorted(forms) if ours != theirs]


def _tensors(count: int) -> str:
    return "1 tensor" if count == 1 else f"{count} tensors"


def _usual_images(*networks: nn.Module) -> Tensor:
    for network in networks:
        cfg = getattr(network, "pretrained_cfg", None) or {}
        if size := cfg.get("input_size"):
            return images(tuple(size))
    return images(CUSTOMARY_SIZE)
