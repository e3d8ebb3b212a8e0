"""Why a pair is not equal, as the command line and failing tests say it."""

from cnnbench.compare.report.values import error_text
from cnnbench.compare.report.words import errors_text, place_text
from cnnbench.compare.result import Divergence, Parity

LINES = 3  # at most, of a reason


def why_not_equal(parity: Parity) -> list[str]:
    """Return why a pair is not equal: where it parts first and by how much, or what has no counterpart.

    Args:
        parity: That did not pass.

    Returns:
        One to three lines, each of any length.
    """
    if parity.first_divergence is not None:
        return _divergence(parity.first_divergence, parity.weights.ours)
    if differences := parity.weights.differences:
        shown = differences if len(differences) <= LINES else differences[: LINES - 1]
        return [*shown, *([f"and {len(differences) - len(shown)} more"] if shown is not differences else [])]
    known = {name: error for name, error in vars(parity.max_relative_error).items() if error is not None}
    parts = [f"{name} by {error_text(error)}" for name, error in known.items() if not error <= parity.tolerance]
    if not parts:
        return ["nothing of the two could be compared"]
    return [f"every module puts out the same, but these differ: {', '.join(parts)}"]


def _divergence(found: Divergence, tensors: int) -> list[str]:
    cause = found.cause or "the same configuration, another result"
    where = cause if cause.startswith(f"{found.module}:") else f"{place_text(found)}: {cause}"
    mode = "" if found.mode == "eval" else f" (in {found.mode} mode)"
    sizes = f"{errors_text(found)}{mode}"
    return [where, f"{sizes}; {found.tensors_behind} of {tensors} tensors lie behind it"]
