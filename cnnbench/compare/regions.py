"""What lies between layers that agree and a place where two runs differ, and what of it only one side does."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from cnnbench.compare.numbers import Known
from cnnbench.compare.operations import STRUCTURAL
from cnnbench.compare.steps import Op, Trace
from cnnbench.compare.words import describe, settings_difference


@dataclass(frozen=True)
class Unlike:
    """Operations that tell two runs apart.

    Attributes:
        ours: Ours; None where only theirs has one.
        theirs: Theirs; None where only ours has one.
        cause: What tells them apart; None where that cannot be read off.
        lacking: Whether one side lacks what the other has.
    """

    ours: Op | None
    theirs: Op | None
    cause: str | None
    lacking: bool = False


def between(run: Trace, starts: Iterable[int], stop: Callable[[int, Op], bool]) -> list[Op]:
    """Return the operations on the way back from some values, in order of execution.

    Args:
        run: Of which network.
        starts: Values to begin at.
        stop: Whether the way back ends at a value, made by an operation, which is left out then.
    """
    found: dict[int, Op] = {}
    waiting = [value for value in starts if value in run.maker]
    while waiting:
        value = waiting.pop()
        op = run.maker[value]
        if op.index not in found and not stop(value, op):
            found[op.index] = op
            waiting += [source for _, source in op.inputs if source in run.maker]
    return [found[index] for index in sorted(found)]


def unknown_to(run: Trace, starts: Iterable[int], known: Known) -> list[Op]:
    """Return the operations on the way back that put out what the other run never does."""

    def met(value: int, op: Op) -> bool:
        return value in run.fingerprints and known.has(run.fingerprints[value])

    return [op for op in between(run, starts, met) if op.name not in STRUCTURAL]


def first_unlike(ours: Sequence[Op], theirs: Sequence[Op]) -> Unlike | None:
    """Return the first operations that differ, given those that the other side does not know; None: there are none."""
    matcher = SequenceMatcher(None, [op.name for op in ours], [op.name for op in theirs], autojunk=False)
    for kind, a, a_end, b, b_end in matcher.get_opcodes():
        if kind == "equal":
            for mine, other in zip(ours[a:a_end], theirs[b:b_end], strict=True):
                if difference := settings_difference(mine, other):
                    return Unlike(mine, other, f"{describe(mine)}: {difference}")
        elif kind == "replace":
            return Unlike(ours[a], theirs[b], f"{_all(ours[a:a_end])}, theirs {_all(theirs[b:b_end])}")
        elif kind == "delete":
            return Unlike(ours[a], None, _all(ours[a:a_end]), lacking=True)
        else:
            return Unlike(None, theirs[b], f"no {_all(theirs[b:b_end])}", lacking=True)
    return Unlike(ours[0], theirs[0], None) if ours and theirs else None


def first_reordered(runs: Sequence[Trace], regions: Sequence[Sequence[Op]], known: Sequence[Known]) -> Unlike | None:
    """Return the first operation that puts the same numbers in an order in which the other side never has them.

    Args:
        runs: Ours and theirs.
        regions: The operations of each that are looked at.
        known: For each the values of the other.
    """
    mine, other = (_turning(*side) for side in zip(runs, regions, known, strict=True))
    if mine is not None and other is not None and mine.name == other.name == "cat":
        return Unlike(mine, other, "concatenates in another order than theirs")
    if mine is not None:
        return Unlike(mine, None, f"{describe(mine)} that puts numbers in another order", lacking=True)
    if other is not None:
        return Unlike(None, other, f"no {describe(other)} that puts numbers in another order", lacking=True)
    return None


def maker(run: Trace, values: Sequence[int]) -> Op | None:
    """Return the operation that computed the first of some values; None for the image."""
    op = run.maker.get(values[0]) if values else None
    while op is not None and op.name in STRUCTURAL and len(op.inputs) == 1:
        op = run.maker.get(op.inputs[0][1])
    return op


def _turning(run: Trace, region: Sequence[Op], known: Known) -> Op | None:
    for op in region:
        taken = [run.fingerprints[value] for _, value in op.inputs if value in run.fingerprints]
        given = [run.fingerprints[value] for value in op.outputs if value in run.fingerprints]
        told = any(known.has(one) and not known.has(one, ordered=True) for one in given)
        if told and all(known.has(one, ordered=True) for one in taken):
            return op
    return None


def _all(ops: Sequence[Op]) -> str:
    named = [describe(op) for op in ops[:3]]
    return " and ".join(named) + (" and more" if len(ops) > 3 else "")
