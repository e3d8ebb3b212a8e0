"""Lines for the user on standard error."""

import re
import sys
from textwrap import wrap

WIDTH = 100  # columns, at most
# What is copied as a whole: a command or a name in quotes, an option with its value.
_WHOLE = re.compile(r"`[^`]*`|(?<!\w)'[^']*'|--[\w-]+ \S+")
_GLUE = "\N{NO-BREAK SPACE}"  # where `wrap` leaves a line as it is


def say(message: str) -> None:
    """Print a message on standard error; in a terminal, lines that are too long are broken at spaces.

    A path, a command in backticks, a name in quotes and an option with its value stay whole.
    """
    lines = message.splitlines()
    if sys.stderr.isatty():
        lines = [part for line in lines for part in wrapped(line, _columns())]
    print("\n".join(lines), file=sys.stderr)


def wrapped(line: str, width: int = WIDTH) -> list[str]:
    """Return a line as lines of at most `width` columns, as far as that goes."""
    glued = _WHOLE.sub(lambda found: found[0].replace(" ", _GLUE), line)
    parts = wrap(glued, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [part.replace(_GLUE, " ") for part in parts]


def _columns() -> int:
    from rich.console import Console

    return min(WIDTH, Console(stderr=True).width)
