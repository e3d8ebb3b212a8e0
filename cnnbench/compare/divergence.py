"""Where two networks with equal weights part, and what differs there in how they are set up.

Both runs are walked side by side. The first pair of matched layers whose outputs differ is the place: where their
inputs agree it is the layers themselves, else what lies between them and the layers before.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from cnnbench.compare.align import node_pairs
from cnnbench.compare.entries import Alignment
from cnnbench.compare.graph import Graph, Node, build_graph
from cnnbench.compare.numbers import TOLERANCE, Known, relative
from cnnbench.compare.paths import common, likeness, nearest
from cnnbench.compare.pieces import unlike_pieces
from cnnbench.compare.regions import Unlike, between, first_reordered, first_unlike, maker, unknown_to
from cnnbench.compare.result import Divergence, LayerError
from cnnbench.compare.steps import Op, Trace
from cnnbench.compare.words import describe, settings_difference

Starts = tuple[list[int], list[int]]
"""Values of ours and of theirs."""


@dataclass(frozen=True)
class Walk:
    """Two runs side by side.

    Attributes:
        runs: Ours and theirs, with numbers.
        graphs: Of both.
        pairs: The matched layers in our order.
        mode: "eval" or "train".
    """

    runs: tuple[Trace, Trace]
    graphs: tuple[Graph, Graph]
    pairs: list[tuple[Node, Node]]
    mode: str

    @classmethod
    def of(cls, ours: Trace, theirs: Trace, alignment: Alignment, mode: str) -> "Walk":
        """Put two runs side by side."""
        graphs = build_graph(ours), build_graph(theirs)
        return cls((ours, theirs), graphs, node_pairs(alignment, *graphs), mode)

    def layer_errors(self) -> list[LayerError]:
        """Return the error of every pair's outputs, in our order."""
        return [LayerError(mine.module, other.module, _given_error(mine, other)) for mine, other in self.pairs]

    def first_divergence(self) -> Divergence | None:
        """Return where outputs first differ; None where none do."""
        for place, (mine, other) in enumerate(self.pairs):
            output_error = _given_error(mine, other)
            if output_error > TOLERANCE:
                input_error = mine.op.taken.error(other.op.taken)
                between_layers = input_error > TOLERANCE
                found = self._between(place, input_error) if between_layers else None
                return found or self._at(place, input_error, output_error)
        for mine, other in zip(*(run.results for run in self.runs), strict=False):
            difference = _tensor_error(mine, other)
            if difference > TOLERANCE:
                found = self._between(len(self.pairs), difference)
                return found or self._found("", "", None, 0.0, difference, len(self.pairs))
        return None

    def unlike_piece(self) -> Divergence | None:
        """Return the first pair of activations that agreed on what they were fed but are other functions."""
        for place in range(len(self.pairs) + 1):
            for mine, other, apart in unlike_pieces(self.runs, self._regions(place)):
                cause = f"{describe(mine)}, theirs {describe(other)}: they part beyond what these images excite"
                return self._found(mine.module, other.module, cause, 0.0, apart, place)
        return None

    def unlike_buffers(self, errors: Mapping[str, float]) -> Divergence:
        """Return the first pair that updates a buffer otherwise.

        Args:
            errors: Of every buffer, by our key; one at least is too large.
        """
        for place, (mine, other) in enumerate(self.pairs):
            worst = max((errors.get(key, 0.0) for key in mine.keys), default=0.0)
            if worst > TOLERANCE:
                cause = settings_difference(mine.op, other.op)
                return self._found(mine.module, other.module, cause, 0.0, worst, place)
        key = max(errors, key=errors.get)
        owner = key.rpartition(".")[0]
        return self._found(owner, owner, f"{key} is updated otherwise", 0.0, errors[key], len(self.pairs))

    def unlike_gradients(self, errors: Mapping[str, float]) -> Divergence:
        """Return where gradients part though outputs agree: where one side stops them, else the last such pair.

        Args:
            errors: Of every gradient, by our key, the images' under ""; one at least is too large.
        """
        worst = max(errors.values())
        for place, (mine, other) in reversed(list(enumerate(self.pairs))):
            if any(errors.get(key, 0.0) > TOLERANCE for key in mine.keys):
                module, cause = self._stopped() or (mine.module, "gradients differ though outputs agree")
                return self._found(module, other.module if module == mine.module else module, cause, 0.0, worst, place)
        module, cause = self._stopped() or ("", "gradients of the images differ though outputs agree")
        return self._found(module, module, cause, 0.0, worst, 0)

    # ------------------------------------------------------------------ the two places

    def _at(self, place: int, input_error: float, output_error: float) -> Divergence:
        """Return the divergence in a pair of layers itself."""
        mine, other = self.pairs[place]
        cause = settings_difference(mine.op, other.op) or _roles_difference(mine, other)
        if cause:
            cause = "; ".join([cause, *self._related(place)])
        return self._found(mine.module, other.module, cause, input_error, output_error, place)

    def _related(self, place: int) -> list[str]:
        """Name the next layers that are set up otherwise too, such as the one that got another's stride."""
        differences = [(mine.module, settings_difference(mine.op, other.op)) for mine, other in self.pairs[place + 1 :]]
        return [f"{module}: {difference}" for module, difference in differences[:3] if difference]

    def _between(self, place: int, error: float) -> Divergence | None:
        """Return the divergence between the layers that agree and what they feed."""
        starts = self._starts(place)
        unknown = [unknown_to(*side) for side in zip(self.runs, starts, reversed(self.known), strict=True)]
        found = first_unlike(*unknown)
        if found is None or found.cause is None:
            found = first_reordered(self.runs, self._regions(place), self.known[::-1]) or found
        if found is None:
            return self._elsewhere(place, error)
        cause = f"{found.cause}{self._whereabouts(found, place)}" if found.lacking else found.cause
        return self._found(*self._names(found, place), cause, self._input_error(found), error, place)

    def _elsewhere(self, place: int, error: float) -> Divergence | None:
        """Return the divergence where a pair takes tensors that both sides have, but not the same ones."""
        makers = [maker(run, starts) for run, starts in zip(self.runs, self._starts(place), strict=True)]
        if None in makers:
            return None
        made = [op.module for op in makers]
        takers = [node.module for node in self.pairs[place]] if place < len(self.pairs) else ["", ""]
        taker = takers[0] or ("the network" if place < len(self.pairs) else "the output")
        ours, theirs = (f"{op.module or 'the network'} ({describe(op)})" for op in makers)
        if ours == theirs:
            return self._found(*takers, f"{taker} takes what comes from {ours} otherwise", 0.0, error, place)
        owner = max((common(*paths) for paths in (made, *zip(takers, made, strict=True))), key=len)
        names = (owner if owner in run.modules else module for run, module in zip(self.runs, made, strict=True))
        return self._found(*names, f"{taker} takes what comes from {ours}, theirs from {theirs}", 0.0, error, place)

    def _names(self, found: Unlike, place: int) -> tuple[str, str]:
        """Return the modules that ran the operations; for a missing one, where the other side's module would be."""
        if found.ours is not None and found.theirs is not None:
            return found.ours.module, found.theirs.module
        side = 0 if found.ours is None else 1
        op = found.ours or found.theirs
        missing = self._counterpart(op, side)
        if not missing and op.module and place < len(self.pairs):
            missing = self.pairs[place][side].module
        return (missing, op.module) if side == 0 else (op.module, missing)

    def _counterpart(self, op: Op, side: int) -> str:
        """Return the module of a side that would run what it lacks: one of that name or that idles, or an outer one."""
        run, other = self.runs[side], self.runs[1 - side]
        if op.module in run.modules:
            return op.module
        taken = Known(other.fingerprints[value] for _, value in op.inputs if value in other.fingerprints)
        prints = [(module, run.fingerprints.get(value)) for module, value in run.idle]
        idle = [module for module, print_ in prints if print_ is not None and taken.has(print_)]
        return max(idle, key=partial(likeness, op.module)) if idle else nearest(op.module, run.modules)

    def _whereabouts(self, found: Unlike, place: int) -> str:
        """Say between which of our layers an operation stands that one side lacks, and which side that is."""
        side = 0 if found.theirs is None else 1
        ends = {id(op): pair[0].module for pair in self.pairs for op in (pair[side].op, pair[side].end)}
        op = found.theirs or found.ours
        met: list[str] = []
        values = [value for _, value in op.inputs]
        between(self.runs[side], values, lambda value, op: id(op) in ends and not met.append(ends[id(op)]))
        before = met[0] if met else "the images"
        behind = self.pairs[place][0].module if place < len(self.pairs) else "the output"
        has = "which theirs lacks" if found.theirs is None else "which theirs has"
        return f" between {before} and {behind}, {has}"

    # ------------------------------------------------------------------ helpers

    @cached_property
    def known(self) -> tuple[Known, Known]:
        """The values of ours and of theirs."""
        return tuple(Known(run.fingerprints.values()) for run in self.runs)

    def _starts(self, place: int) -> Starts:
        """Return what a pair of layers takes in; behind the last one, what the networks put out."""
        if place == len(self.pairs):
            return self.runs[0].outputs, self.runs[1].outputs
        mine, other = self.pairs[place]
        return [value for _, value in mine.op.inputs], [value for _, value in other.op.inputs]

    def _regions(self, place: int) -> tuple[list[Op], list[Op]]:
        """Return all operations between matched layers and what a pair takes in."""
        regions = []
        for run, starts, ends in zip(self.runs, self._starts(place), self._ends, strict=True):
            regions.append(between(run, starts, lambda value, op, ends=ends: id(op) in ends))
        return tuple(regions)

    @cached_property
    def _ends(self) -> tuple[set[int], set[int]]:
        return tuple({id(op) for pair in self.pairs for op in (pair[i].op, pair[i].end)} for i in (0, 1))

    def _input_error(self, found: Unlike) -> float:
        """Return 0 where the other side has what the operation takes in, else how far the inputs are apart."""
        side = 0 if found.ours is not None else 1
        op = found.ours or found.theirs
        prints = [self.runs[side].fingerprints.get(value) for _, value in op.inputs]
        if all(one is None or self.known[1 - side].has(one) for one in prints) or not (found.ours and found.theirs):
            return 0.0
        others = [self.runs[1].fingerprints.get(value) for _, value in found.theirs.inputs]
        return max((a.error(b) for a, b in zip(prints, others, strict=False) if a and b), default=0.0)

    def _stopped(self) -> tuple[str, str] | None:
        """Return the first module that stops gradients where the other side does not."""
        mine, other = (Counter(op.module for op in run.ops if op.name == "detach") for run in self.runs)
        sides = (mine - other, "detach, which theirs lacks"), (other - mine, "no detach, which theirs has")
        for extra, cause in sides:
            if extra:
                return next(iter(extra)), cause
        return None

    def _found(
        self, module: str, reference: str, cause: str | None, input_error: float, output_error: float, place: int
    ) -> Divergence:
        behind = len({key for mine, _ in self.pairs[place:] for key in mine.keys})
        return Divergence(module, reference, cause, input_error, output_error, behind, self.mode)


def _given_error(mine: Node, other: Node) -> float:
    return mine.end.given.error(other.end.given)


def _tensor_error(mine: torch.Tensor, other: torch.Tensor) -> float:
    if mine.shape != other.shape:
        return float("inf")
    mine, other = mine.double(), other.double()
    return relative((mine - other).abs().max().item(), other.abs().max().item()) if mine.numel() else 0.0


def _roles_difference(mine: Node, other: Node) -> str | None:
    only = [f"no {role}, which theirs has" for role in other.uses if role not in mine.uses]
    only += [f"{role}, which theirs lacks" for role in mine.uses if role not in other.uses]
    return "; ".join(only) or None
