"""What a message says of many files that are not what they should be: each reason once, and the first files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cnnbench.data.segmentation.mask_files import the_ids

_REASONS = 5  # that a message has at most
_FILES = 3  # that it names of those with one reason
_PLURAL = {"has": "have", "is": "are"}


class Mismatch(NamedTuple):
    """A file that is not what it should be.

    Attributes:
        kind: What files of its kind are called, such as `masks`.
        file: Its path.
        reason: What follows the name in a sentence, a verb first.
        ids: Of a mask, the numbers that are no class, which the reason speaks of as `{ids}`.
    """

    kind: str
    file: Path
    reason: str
    ids: Sequence[int] = ()


def told(mismatches: Iterable[Mismatch]) -> str:
    """Return all mismatches in a line."""
    by_reason: dict[tuple[str, str], list[Mismatch]] = {}
    for mismatch in mismatches:
        by_reason.setdefault((mismatch.kind, mismatch.reason), []).append(mismatch)
    sentences = [_sentence(*reason, same) for reason, same in by_reason.items()]
    left = len(sentences) - _REASONS
    return "; ".join([*sentences[:_REASONS], *([f"and {left:,} more"] if left > 0 else [])])


def _sentence(kind: str, reason: str, same: Sequence[Mismatch]) -> str:
    ids = sorted({id for mismatch in same for id in mismatch.ids})
    verb, _, rest = reason.replace("{ids}", the_ids(ids)).partition(" ")
    if len(same) == 1:
        return f"{same[0].file} {verb} {rest}"
    named = ", ".join(str(mismatch.file) for mismatch in same[:_FILES])
    more = f" and {len(same) - _FILES:,} more" if len(same) > _FILES else ""
    return f"{len(same):,} {kind} ({named}{more}) {_PLURAL.get(verb, verb)} {rest}"
