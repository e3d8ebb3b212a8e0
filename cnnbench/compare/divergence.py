"""Where two networks with equal weights part, and what differs there in how they are set up.

Both runs are walked side by side. The first pair of matched layers whose outputs differ is the place: where their
inputs agree it is the layers themselves, else what lies between them and the layers before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch

from cnnbench.compare.align import Alignment, node_pairs
from cnnbench.compare.graph import Graph, Node, build_graph
from cnnbench.compare.numbers import TOLERANCE, relative
from cnnbench.compare.result import Divergence, LayerError
from cnnbench.compare.trace import STRUCTURAL, Op, Trace
from cnnbench.compare.words import describe, settings_difference

# Functions of one number: compared as such too, since two may agree on all that a network happened to feed them.
PIECES = frozenset(
    {
        *(
            "relu",
            "hardtanh",
            "relu6",
            "gelu",
            "silu",
            "sigmoid",
            "hardsigmoid",
            "hardswish",
            "leaky_relu",
            "elu",
            "mish",
        ),
        *("tanh", "softplus", "clamp", "clamp_min", "clamp_max", "threshold", "abs", "exp", "softsign", "log_sigmoid"),
    }
)


@dataclass(frozen=True)
class Walk:
    """Two runs side by side.

    Attributes:
        ours: Our run, with numbers.
        theirs: Theirs.
        graphs: Of both.
        pairs: The matched layers in our order.
        mode: "eval" or "train".
    """

    ours: Trace
    theirs: Trace
    graphs: tuple[Graph, Graph]
    pairs: list[tuple[Node, Node]]
    mode: str

    @classmethod
    def of(cls, ours: Trace, theirs: Trace, alignment: Alignment, mode: str) -> "Walk":
        """Put two runs side by side."""
        graphs = build_graph(ours), build_graph(theirs)
        return cls(ours, theirs, graphs, node_pairs(alignment, *graphs), mode)

    def layer_errors(self) -> list[LayerError]:
        """Return the error of every pair's outputs, in our order."""
        return [LayerError(mine.module, other.module, _given_error(mine, other)) for mine, other in self.pairs]

    def first_divergence(self) -> Divergence | None:
        """Return where outputs first differ; None where none do."""
        for place, (mine, other) in enumerate(self.pairs):
            output_error = _given_error(mine, other)
            if output_error <= TOLERANCE:
                continue
            input_error = _taken_error(mine, other)
            if input_error > TOLERANCE:
                starts = [value for _, value in mine.op.inputs], [value for _, value in other.op.inputs]
                return self._between(place, starts, input_error) or self._at(place, input_error, output_error)
            return self._at(place, input_error, output_error)
        for mine, other in zip(self.ours.results, self.theirs.results, strict=False):
            difference = _tensor_error(mine, other)
            if difference > TOLERANCE:
                return self._between(len(self.pairs), (self.ours.outputs, self.theirs.outputs), difference)
        return None

    def unlike_piece(self) -> Divergence | None:
        """Return the first pair of activations that agreed on what they were fed but are other functions."""
        for place, (mine, other) in enumerate([*self.pairs, (None, None)]):
            starts = (
                (self.ours.outputs, self.theirs.outputs)
                if mine is None
                else ([value for _, value in mine.op.inputs], [value for _, value in other.op.inputs])
            )
            regions = self._regions(starts)
            for op in (op for op in regions[0] if op.name in PIECES and op.again is not None):
                for twin in (op for op in regions[1] if op.name in PIECES and op.again is not None):
                    if self._fed_alike(op, twin) and (apart := _apart(op, twin)) > TOLERANCE:
                        cause = f"{describe(op)}, theirs {describe(twin)}: they part beyond what these images excite"
                        return Divergence(op.module, twin.module, cause, 0.0, apart, self._behind(place), self.mode)
        return None

    def unlike_buffers(self, key: str, error: float) -> Divergence:
        """Return the pair that updates a buffer, by our key, otherwise."""
        for place, (mine, other) in enumerate(self.pairs):
            if key in mine.keys:
                cause = settings_difference(mine.op, other.op)
                return Divergence(mine.module, other.module, cause, 0.0, error, self._behind(place), self.mode)
        return Divergence(key, key, None, 0.0, error, 0, self.mode)

    def unlike_gradients(self, errors: dict[str, float]) -> Divergence:
        """Return the last pair whose gradients differ though outputs agree: going backward they part there first."""
        cause = "gradients differ though outputs agree"
        for place, (mine, other) in reversed(list(enumerate(self.pairs))):
            worst = max((errors.get(key, 0.0) for key in mine.keys), default=0.0)
            if worst > TOLERANCE:
                return Divergence(mine.module, other.module, cause, 0.0, worst, self._behind(place), self.mode)
        return Divergence("", "", f"{cause}, at the images", 0.0, errors.get("", 0.0), 0, self.mode)

    # ------------------------------------------------------------------ the two places

    def _at(self, place: int, input_error: float, output_error: float) -> Divergence:
        mine, other = self.pairs[place]
        cause = settings_difference(mine.op, other.op) or _roles_difference(mine, other)
        if cause:
            cause = "; ".join([cause, *self._related(place)])
        behind = self._behind(place)
        return Divergence(mine.module, other.module, cause, input_error, output_error, behind, self.mode)

    def _related(self, place: int) -> list[str]:
        """Name the next layers that are set up otherwise too, such as the one that got another's stride."""
        found = []
        for mine, other in self.pairs[place + 1 : place + 4]:
            if difference := settings_difference(mine.op, other.op):
                found.append(f"{mine.module}: {difference}")
        return found

    def _between(self, place: int, starts: tuple[list[int], list[int]], error: float) -> Divergence | None:
        """Say what differs between the layers that agree and what they feed."""
        regions = self._regions(starts)
        found = self._first_unlike(*regions) or _first_reordered(self, *regions)
        if found is None:
            return None
        mine, other, cause = found
        names = (mine or other).module, (other or mine).module
        if mine is None and place < len(self.pairs):
            names = names[1] if names[1] in self.ours.modules else self.pairs[place][0].module, names[1]
        return Divergence(*names, cause, self._input_error(mine, other), error, self._behind(place), self.mode)

    def _first_unlike(self, ours: list[Op], theirs: list[Op]) -> tuple[Op | None, Op | None, str] | None:
        """Return the first operations that put out what the other side never does, with what tells them apart."""
        mine = self._unknown(ours, theirs, self.ours, self.theirs)
        other = self._unknown(theirs, ours, self.theirs, self.ours)
        matcher = SequenceMatcher(None, [op.name for op in mine], [op.name for op in other], autojunk=False)
        for kind, a, a_end, b, b_end in matcher.get_opcodes():
            if kind == "equal":
                for op, twin in zip(mine[a:a_end], other[b:b_end], strict=True):
                    if difference := settings_difference(op, twin):
                        return op, twin, f"{describe(op)}: {difference}"
            elif kind == "replace":
                return mine[a], other[b], f"{_all(mine[a:a_end])}, theirs {_all(other[b:b_end])}"
            elif kind == "delete":
                return mine[a], None, f"{_all(mine[a:a_end])}, which theirs lacks"
            else:
                return None, other[b], f"no {_all(other[b:b_end])}, which theirs has"
        return None

    def _unknown(self, ops: list[Op], others: list[Op], run: Trace, other_run: Trace) -> list[Op]:
        known = [other_run.fingerprints[v] for op in others for v in op.outputs[:1] if v in other_run.fingerprints]
        unknown = []
        for op in ops:
            own = run.fingerprints.get(op.outputs[0]) if op.outputs else None
            if op.name not in STRUCTURAL and own is not None and not any(own.same(print_) for print_ in known):
                unknown.append(op)
        return unknown

    # ------------------------------------------------------------------ helpers

    def _regions(self, starts: tuple[Iterable[int], Iterable[int]]) -> tuple[list[Op], list[Op]]:
        matched = [{id(node.end) for node in side} | {id(node.op) for node in side} for side in _sides(self.pairs)]
        return _region(self.ours, starts[0], matched[0]), _region(self.theirs, starts[1], matched[1])

    def _fed_alike(self, op: Op, twin: Op) -> bool:
        mine, other = (
            [run.fingerprints.get(value) for value in (one.inputs[0][1], one.outputs[0])]
            for run, one in ((self.ours, op), (self.theirs, twin))
        )
        return None not in (*mine, *other) and all(a.same(b) for a, b in zip(mine, other, strict=True))

    def _input_error(self, mine: Op | None, other: Op | None) -> float:
        if mine is None or other is None:
            return 0.0
        pairs = zip(mine.inputs, other.inputs, strict=False)
        prints = [(self.ours.fingerprints.get(a[1]), self.theirs.fingerprints.get(b[1])) for a, b in pairs]
        return max((a.error(b) for a, b in prints if a is not None and b is not None), default=0.0)

    def _behind(self, place: int) -> int:
        return len({key for mine, _ in self.pairs[place:] for key in mine.keys})


def _region(run: Trace, starts: Iterable[int], matched: set[int]) -> list[Op]:
    """Return the operations on the way back from some values to matched layers, in order of execution."""
    found: dict[int, Op] = {}
    waiting = [run.maker[value] for value in starts if value in run.maker]
    while waiting:
        op = waiting.pop()
        if op.index in found or id(op) in matched:
            continue
        found[op.index] = op
        waiting += [run.maker[value] for _, value in op.inputs if value in run.maker]
    return [found[index] for index in sorted(found)]


def _first_reordered(walk: Walk, ours: list[Op], theirs: list[Op]) -> tuple[Op, Op, str] | None:
    """Return the first operation that takes or puts the same numbers in another order."""
    names = [[op for op in ops if op.name in STRUCTURAL] for ops in (ours, theirs)]
    matcher = SequenceMatcher(None, *([op.name for op in ops] for ops in names), autojunk=False)
    for block in matcher.get_matching_blocks():
        pairs = zip(names[0][block.a : block.a + block.size], names[1][block.b : block.b + block.size], strict=True)
        for op, twin in pairs:
            prints = (
                [walk.ours.fingerprints.get(v) for _, v in op.inputs],
                [walk.theirs.fingerprints.get(v) for _, v in twin.inputs],
            )
            if op.name == "cat" and any(
                a is not None and b is not None and not a.same(b) for a, b in zip(*prints, strict=False)
            ):
                return op, twin, "concatenates in another order than theirs"
            if difference := settings_difference(op, twin):
                return op, twin, f"{describe(op)}: {difference}"
    return None


def _apart(op: Op, twin: Op) -> float:
    """Return how far two functions of a number are apart, relative to what they return."""
    grid = torch.linspace(-40, 40, 1601, dtype=torch.float64)
    mine, other = (one.again(grid.clone()) for one in (op, twin))
    return relative((mine - other).abs().max().item(), other.abs().max().item())


def _given_error(mine: Node, other: Node) -> float:
    return mine.end.given.error(other.end.given)


def _taken_error(mine: Node, other: Node) -> float:
    return mine.op.taken.error(other.op.taken)


def _tensor_error(mine: torch.Tensor, other: torch.Tensor) -> float:
    if mine.shape != other.shape:
        return float("inf")
    return relative((mine - other).abs().max().item(), other.abs().max().item()) if mine.numel() else 0.0


def _roles_difference(mine: Node, other: Node) -> str | None:
    only = [f"no {role}, which theirs has" for role in other.uses if role not in mine.uses]
    only += [f"{role}, which theirs lacks" for role in mine.uses if role not in other.uses]
    return "; ".join(only) or None


def _sides(pairs: list[tuple[Node, Node]]) -> tuple[list[Node], list[Node]]:
    return [mine for mine, _ in pairs], [other for _, other in pairs]


def _all(ops: Sequence[Op]) -> str:
    named = [describe(op) for op in ops[:3]]
    return " and ".join(named) + (" and more" if len(ops) > 3 else "")
