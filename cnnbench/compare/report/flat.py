"""`report.csv`: one flat row a pair."""

import csv
import io
from collections.abc import Callable
from functools import partial
from typing import Any

from cnnbench.compare.report.values import CONTESTS, STATED, look_up, stated_differs, status
from cnnbench.compare.result import Comparison, Report

_ERRORS = ("logits", "features", "gradients", "buffers")
_ESTIMATES = ("speedup", "control", "cpu_speedup", "cpu_control")
_BOUNDS = ("median", "low", "high")
_DIVERGENCE = ("module", "reference_module", "cause", "input_error", "output_error", "tensors_behind", "mode")


def _contest(name: str) -> dict[str, str]:
    here = f"speed.{name}"
    return {
        **{f"{name}_{kind}_{bound}": f"{here}.{kind}.{bound}" for kind in _ESTIMATES for bound in _BOUNDS},
        f"{name}_images_per_second_ours": f"{here}.images_per_second.0",
        f"{name}_images_per_second_theirs": f"{here}.images_per_second.1",
        f"{name}_pairs": f"{here}.pairs",
        f"{name}_verdict": f"{here}.verdict",
    }


def _differences(comparison: Comparison) -> str | None:
    differences = look_up(comparison, "parity.weights.differences")
    return None if differences is None else "; ".join(differences)


def _first_different_step(comparison: Comparison) -> int | None:
    duels = look_up(comparison, "training.duels") or []
    return min((duel.first_different_step for duel in duels if duel.first_different_step is not None), default=None)


def _largest_difference(comparison: Comparison) -> float | None:
    return max((duel.largest_difference for duel in look_up(comparison, "training.duels") or []), default=None)


COLUMNS: dict[str, str | Callable[[Comparison], Any]] = {
    "model": "model",
    "reference": "reference",
    "status": status,
    "error": "error",
    "year": "year",
    "top1": "top1",
    **{f"published_{name}": f"published.{name}" for name in ("top1", *STATED)},
    **{f"published_{name}_differ": partial(stated_differs, name=name) for name in STATED},
    "tolerance": "parity.tolerance",
    **{f"error_{name}": f"parity.max_relative_error.{name}" for name in _ERRORS},
    **{f"divergence_{name}": f"parity.first_divergence.{name}" for name in _DIVERGENCE},
    "same_random_draws": "parity.same_random_draws",
    "weights_method": "parity.weights.method",
    **{f"weights_{name}": f"parity.weights.{name}" for name in ("matched", "ours", "theirs")},
    "weights_differences": _differences,
    **{
        f"{name}_{side}": f"cost.{side}.{name}"
        for name in ("parameters", "macs", "activations")
        for side in ("ours", "theirs")
    },
    "batch_size": "speed.batch_size",
    "image_size": "speed.image_size",
    **{column: path for name in (*CONTESTS, "served_contest") for column, path in _contest(name).items()},
    **{f"memory_{name}": f"memory.{name}" for name in ("ours", "theirs", "ratio", "batch_size", "image_size")},
    "training_config": "training.config",
    "training_verdict": "training.verdict",
    "training_first_different_step": _first_different_step,
    "training_largest_difference": _largest_difference,
}
"""Name of a column: the path of its value, or what computes it."""


def flat(report: Report) -> str:
    """Return the report as CSV: a header, and a row a pair; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for comparison in report.comparisons:
        found = (look_up(comparison, way) if isinstance(way, str) else way(comparison) for way in COLUMNS.values())
        writer.writerow(["" if value is None else value for value in found])
    return text.getvalue()
