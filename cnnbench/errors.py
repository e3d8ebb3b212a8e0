"""Errors that are the user's to mend: the command line prints them in a line and exits with code 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake of the user: the message names the thing, where it stands, and what would be right."""


def did_you_mean(name: str, candidates: Iterable[str], n: int = 3) -> str:
    """Return the `n` nearest candidates as a clause to append to a message, such as "; did you mean 'fit'?".

    Where nothing is near, all candidates are named if they are few, else the clause is empty.
    """
    candidates = list(dict.fromkeys(candidates))
    near = get_close_matches(name, candidates, n=n, cutoff=0.5)
    if near:
        return f"; did you mean {_either(near)}?"
    return f"; there is {_either(candidates)}" if 0 < len(candidates) <= 8 else ""


def _either(names: list[str]) -> str:
    quoted = [repr(name) for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]
