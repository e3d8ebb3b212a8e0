"""Plots of one pair: the losses of its duels, and how far its layers are apart."""

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from cnnbench.compare.report.plots import NARROW, WIDE
from cnnbench.compare.report.svg import INK, MUTED, OURS, THEIRS, WRONG, plotting, to_svg
from cnnbench.compare.report.values import error_text, pair_name, printable
from cnnbench.compare.result import Comparison, LayerError, Parity, Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ZERO = 1e-17  # where a logarithmic axis draws 0
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def loss_plot(comparison: Comparison, training: Training, name: str) -> Markup:
    """Return the losses of all duels of a pair, ours over theirs, and below them their differences.

    Args:
        comparison: The pair.
        training: Its duels.
        name: Of the figure, unique in the page.
    """
    from matplotlib.figure import Figure

    with plotting(name):
        figure = Figure(figsize=(NARROW, 4.2), layout="constrained")
        losses, apart = figure.subplots(2, height_ratios=(3, 2), sharex=True)
        differences = []
        for duel in training.duels:
            ours, theirs = (np.asarray(side, dtype=float) for side in duel.losses)
            both = min(len(ours), len(theirs))
            losses.plot(np.arange(1, len(theirs) + 1), theirs, color=THEIRS, linewidth=2.4, alpha=0.8)
            losses.plot(np.arange(1, len(ours) + 1), ours, color=OURS, linewidth=0.9)
            differences.append(np.abs(ours[:both] - theirs[:both]))
            apart.plot(np.arange(1, both + 1), np.maximum(differences[-1], ZERO), color=INK, linewidth=0.9)
        losses.set_ylabel("loss")
        losses.set_title("ours (thin, blue) over theirs (wide, orange)", loc="left", fontsize=8.5, color=MUTED)
        _log_axis(apart, np.concatenate(differences))
        apart.set_ylabel("|ours − theirs|")
        apart.set_xlabel("step")
        figure.align_ylabels()
        return to_svg(figure, name, f"Losses of both sides and their difference, {pair_name(comparison)}")


def layer_plot(comparison: Comparison, parity: Parity, name: str) -> Markup:
    """Return the error of every matched layer, with the first divergence marked.

    Args:
        comparison: The pair.
        parity: What was found of it; it has layers.
        name: Of the figure, unique in the page.
    """
    from matplotlib.figure import Figure

    with plotting(name):
        figure = Figure(figsize=(WIDE, 3), layout="constrained")
        axes = figure.add_subplot()
        errors = np.array([layer.error for layer in parity.layers])
        heights = _drawable(errors)
        axes.axhline(parity.tolerance, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.scatter(np.arange(1, len(errors) + 1), heights, s=10, color=INK, linewidth=0, zorder=3, gid="layers")
        _log_axis(axes, np.append(errors, parity.tolerance))
        axes.set_xlim(0, len(errors) + 1)
        axes.set_xlabel("layer, in the order in which they run")
        axes.set_ylabel("relative error of its output")
        _mark_divergence(axes, parity, heights)
        return to_svg(
            figure,
            name,
            f"Relative error of {len(errors)} layers, {pair_name(comparison)}",
            {"layers": [_layer_tooltip(layer) for layer in parity.layers]},
        )


def _mark_divergence(axes: "Axes", parity: Parity, heights: np.ndarray) -> None:
    index = diverging_layer(parity)
    if index is None:
        return
    x, layer = index + 1, parity.layers[index]
    axes.axvline(x, color=WRONG, linewidth=0.9, zorder=1)
    axes.plot([x], [heights[index]], "D", color=WRONG, markersize=5, zorder=4)
    left = x <= len(heights) / 2
    axes.annotate(
        printable(layer.module),
        (x, 1.02),
        (4 if left else -4, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="left" if left else "right",
        color=WRONG,
        annotation_clip=False,
    )


def diverging_layer(parity: Parity) -> int | None:
    """Return the index in `layers` of the first divergence; None where it is not one of them."""
    found = parity.first_divergence
    names = [layer.module for layer in parity.layers]
    return names.index(found.module) if found and found.module in names else None


def _layer_tooltip(layer: LayerError) -> str:
    same = layer.module == layer.reference_module
    return f"{layer.module}{'' if same else f' – {layer.reference_module}'}: {error_text(layer.error)}"


def _drawable(values: np.ndarray) -> np.ndarray:
    """Return the values with 0 at `ZERO` and what is not finite above all others."""
    finite = values[np.isfinite(values)]
    top = 10 * max(finite.max(initial=0), 1)
    return np.maximum(np.where(np.isfinite(values), values, top), ZERO)


def _log_axis(axes: "Axes", values: np.ndarray) -> None:
    """Make the vertical axis logarithmic, from 0, which is drawn at `ZERO`, or below the least of the values."""
    shown = _drawable(values)
    low = np.floor(np.log10(shown.min())) if shown.min() > ZERO else -17
    high = max(np.ceil(np.log10(shown.max())), low + 3)
    axes.set_yscale("log")
    axes.set_ylim(10 ** (low - 0.5), 10 ** (high + 0.5))
    step = max(1, int(np.ceil((high - low) / 6)))
    powers = [int(low), *(power for power in range(int(high), int(low) + step - 1, -step))]
    axes.set_yticks([10.0**power for power in powers], [_power_text(power) for power in powers])
    axes.set_yticks([], minor=True)


def _power_text(power: int) -> str:
    return "0" if 10.0**power <= ZERO else f"10{str(power).translate(_SUPERSCRIPTS)}"
