"""What the command line and failing tests say of a pair that is not equal."""

from cnnbench.compare.result import Comparison, Divergence, Parity

LINES = 3  # at most, of a reason


def relative(error: float) -> str:
    """Return a relative error as "0", "3e-16", "2e-6" or "0.38"."""
    if error == 0:
        return "0"
    return f"{error:.2g}" if not error < 0.01 else f"{error:.0e}".replace("e-0", "e-")


def verdict(comparison: Comparison) -> str:
    """Return "EQUAL", "NOT EQUAL", "NOT CHECKED" where parity was not asked for, or "FAILED"."""
    if comparison.error is not None:
        return "FAILED"
    if comparison.parity is None:
        return "NOT CHECKED"
    return "EQUAL" if comparison.parity.passed else "NOT EQUAL"


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
    parts = [f"{name} by {relative(error)}" for name, error in known.items() if not error <= parity.tolerance]
    if not parts:
        return ["nothing of the two could be compared"]
    return [f"every module puts out the same, but these differ: {', '.join(parts)}"]


def _divergence(found: Divergence, tensors: int) -> list[str]:
    place = found.module
    if found.reference_module != found.module:
        place += f" (theirs {found.reference_module})"
    cause = found.cause or "the same configuration, another result"
    where = cause if cause.startswith(f"{found.module}:") else f"{place}: {cause}"
    mode = "" if found.mode == "eval" else f" (in {found.mode} mode)"
    sizes = f"inputs agree to {relative(found.input_error)}, outputs differ by {relative(found.output_error)}{mode}"
    return [where, f"{sizes}; {found.tensors_behind} of {tensors} tensors lie behind it"]
