"""Errors that are the user's to mend: the command line prints them in a line and exits with code 2."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class UserError(Exception):
    """A mistake of the user: the message names the thing, where it stands, and what would be right."""


class ToldElsewhereError(UserError):
    """A mistake of the user that another process of the same run has printed."""


class StoppedError(Exception):
    """A run that was told to end, and has: the message says how to go on.

    Args:
        message: What is printed.
        code: The exit code, 128 and the number of the signal.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def did_you_mean(name: str | None, candidates: Iterable[str], n: int = 3) -> str:
    """Return the `n` nearest candidates as a clause to append to a message, such as "; did you mean 'fit'?".

    Where nothing is near, or there is no name, all candidates are named if they are few, else the clause is empty.
    """
    candidates = list(dict.fromkeys(candidates))
    spelt = {candidate.lower(): candidate for candidate in candidates}
    near = get_close_matches((name or "").lower(), spelt, n=n, cutoff=0.5)
    if near:
        return f"; did you mean {either([repr(spelt[match]) for match in near])}?"
    return f"; there is {either([repr(name) for name in candidates])}" if 0 < len(candidates) <= 16 else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def user_error_within(error: BaseException) -> UserError | None:
    """Return the user's mistake that other errors are wrapped around, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    return cause


def either(names: Sequence[str]) -> str:
    """Return the names as "a", "a or b", "a, b or c"."""
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
