"""Which tensor of one network is which of another, whatever their names: aligned by what they do."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest

from torch import Tensor, nn

from cnnbench.compare.graph import Graph, Node, build_graph, canonical_shape, refine
from cnnbench.compare.kept import everything_kept
from cnnbench.compare.trace import Trace, Use, trace

ATTEMPTS = 24  # ways to resolve nodes that cannot be told apart


@dataclass(frozen=True)
class Entry:
    """A tensor of the source and its counterpart in the target.

    Attributes:
        source: Its key.
        target: Its counterpart's key.
        turn: Whether rows and columns change places on the way.
    """

    source: str
    target: str
    turn: bool = False

    def convert(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the source's tensor in the shape of the target's."""
        return (tensor.t() if self.turn else tensor).reshape(shape).contiguous()


@dataclass(frozen=True)
class Alignment:
    """The tensors of two networks side by side.

    Attributes:
        method: "same keys" or "data flow".
        entries: Each pair of tensors.
        differences: What has no counterpart, a sentence each, "ours" being the source.
    """

    method: str
    entries: tuple[Entry, ...]
    differences: tuple[str, ...] = ()

    @property
    def mapping(self) -> dict[str, str]:
        """Keys of the source and their counterparts in the target."""
        return {entry.source: entry.target for entry in self.entries}

    def convert(self, state_dict: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the source's tensors under the target's keys and in its shapes.

        Args:
            state_dict: Of the source.
            target: State dict of the target; what has no counterpart is taken from it.
        """
        converted = {
            entry.target: entry.convert(state_dict[entry.source], tuple(target[entry.target].shape))
            for entry in self.entries
        }
        return {key: converted.get(key, tensor) for key, tensor in target.items()}

    def inverse(self) -> "Alignment":
        """Return the same from the target to the source."""
        entries = tuple(Entry(entry.target, entry.source, entry.turn) for entry in self.entries)
        return Alignment(self.method, entries, self.differences)


def alignments(ours: nn.Module, theirs: nn.Module, images: Tensor) -> Iterator[Alignment]:
    """Yield the ways to align two networks, the likeliest first; more than one where nodes cannot be told apart.

    Args:
        ours: A network; both are run once in training mode, which updates their buffers.
        theirs: Another.
        images: (B, C, H, W), in the networks' dtype.
    """
    if same_keys(ours, theirs):
        yield Alignment("same keys", tuple(Entry(key, key) for key in ours.state_dict()))
        return
    graphs = [build_graph(trace_training(network, images)) for network in (ours, theirs)]
    for pairs in _matchings(*graphs):
        yield _alignment(ours, theirs, graphs, pairs)


def node_pairs(alignment: Alignment, ours: Graph, theirs: Graph) -> list[tuple[Node, Node]]:
    """Pair the nodes that take aligned tensors, in our order; the first with the first where several take the same."""
    waiting = defaultdict(list)
    for node in theirs.nodes:
        waiting[node.keys[:1]].append(node)
    mapping = alignment.mapping
    pairs = []
    for node in ours.nodes:
        if candidates := waiting[tuple(mapping.get(key, "") for key in node.keys[:1])]:
            pairs.append((node, candidates.pop(0)))
    return pairs


def trace_training(network: nn.Module, images: Tensor, numbers: bool = False) -> Trace:
    """Return what a network does in training mode when nothing is dropped."""
    was_training = network.training
    with everything_kept():
        run = trace(network.train(), images, numbers)
    network.train(was_training)
    return run


def same_keys(ours: nn.Module, theirs: nn.Module) -> bool:
    """Whether the state dicts fit into each other as they are."""
    shapes = [{key: tensor.shape for key, tensor in network.state_dict().items()} for network in (ours, theirs)]
    return shapes[0] == shapes[1]


def _matchings(ours: Graph, theirs: Graph) -> Iterator[list[tuple[int, int]]]:
    """Yield pairings of the nodes by their surroundings; a part of them where the graphs differ."""
    history = refine((ours, theirs), ({}, {}))
    if sorted(history[0][-1]) != sorted(history[1][-1]):
        yield _partial(ours, theirs, history)
        return
    for count, pairs in enumerate(_resolved(ours, theirs, {}, {})):
        if count == ATTEMPTS:
            return
        yield pairs


def _resolved(
    ours: Graph, theirs: Graph, our_marks: dict[int, int], their_marks: dict[int, int]
) -> Iterator[list[tuple[int, int]]]:
    """Yield the complete pairings: of nodes that cannot be told apart, the first is tried with each candidate."""
    our_labels, their_labels = (rounds[-1] for rounds in refine((ours, theirs), (our_marks, their_marks)))
    candidates = defaultdict(list)
    for i, label in enumerate(their_labels):
        candidates[label].append(i)
    if sorted(our_labels) != sorted(their_labels):
        return
    for i, label in enumerate(our_labels):
        if len(candidates[label]) > 1:
            for candidate in candidates[label]:
                mark = len(our_marks)
                yield from _resolved(ours, theirs, {**our_marks, i: mark}, {**their_marks, candidate: mark})
            return
    yield [(i, candidates[label][0]) for i, label in enumerate(our_labels)]


def _partial(ours: Graph, theirs: Graph, history: list[list[list[int]]]) -> list[tuple[int, int]]:
    """Pair what has like surroundings, the widest first, then what is alike in itself, in order of execution."""
    pairs: dict[int, int] = {}
    for our_labels, their_labels in zip(*(reversed(rounds) for rounds in history), strict=True):
        groups = defaultdict(lambda: ([], []))
        for i, label in enumerate(our_labels):
            if i not in pairs:
                groups[label][0].append(i)
        taken = set(pairs.values())
        for i, label in enumerate(their_labels):
            if i not in taken:
                groups[label][1].append(i)
        for mine, other in groups.values():
            if len(mine) == len(other) == 1:
                pairs[mine[0]] = other[0]
    left = [i for i in range(len(ours.nodes)) if i not in pairs]
    taken = set(pairs.values())
    others = [i for i in range(len(theirs.nodes)) if i not in taken]
    labels = [ours.nodes[i].label for i in left], [theirs.nodes[i].label for i in others]
    for block in SequenceMatcher(None, *labels, autojunk=False).get_matching_blocks():
        pairs |= dict(zip(left[block.a : block.a + block.size], others[block.b : block.b + block.size], strict=True))
    return sorted(pairs.items())


def _alignment(ours: nn.Module, theirs: nn.Module, graphs: list[Graph], pairs: list[tuple[int, int]]) -> Alignment:
    entries: dict[str, Entry] = {}
    differences = _unmatched(graphs, pairs)
    for i, j in pairs:
        mine, other = graphs[0].nodes[i], graphs[1].nodes[j]
        for role in dict.fromkeys((*mine.uses, *other.uses)):
            if role in mine.uses and role in other.uses:
                entries |= {entry.source: entry for entry in _entries(mine.kind, mine.uses[role], other.uses[role])}
            else:
                side, node = ("ours", mine) if role in mine.uses else ("theirs", other)
                differences.append(f"{role} of {node.module} is only {side}")
        entries |= _counters(mine, other, ours, theirs)
    differences += _left_over(ours, theirs, entries)
    return Alignment("data flow", tuple(entries.values()), tuple(differences))


def _entries(kind: str, mine: Use, other: Use) -> list[Entry]:
    turn = kind == "linear" and len(mine.shape) == len(other.shape) == 2 and mine.turned != other.turned
    if kind == "linear" and {len(mine.shape), len(other.shape)} == {2, 4}:
        matrix = mine if len(mine.shape) == 2 else other
        turn = not matrix.turned
    return [Entry(key, counterpart, turn) for key, counterpart in zip(mine.keys, other.keys, strict=False)]


def _counters(mine: Node, other: Node, ours: nn.Module, theirs: nn.Module) -> dict[str, Entry]:
    """Pair what batch norms keep and never compute with: the number of batches they have seen."""
    if mine.kind != "batch_norm" or "running_mean" not in mine.uses or "running_mean" not in other.uses:
        return {}
    source, target = (
        node.uses["running_mean"].keys[0].removesuffix("running_mean") + "num_batches_tracked" for node in (mine, other)
    )
    known = source in ours.state_dict() and target in theirs.state_dict()
    return {source: Entry(source, target)} if known else {}


def _unmatched(graphs: list[Graph], pairs: list[tuple[int, int]]) -> list[str]:
    sides = []
    for number, (side, graph) in enumerate(zip(("ours", "theirs"), graphs, strict=True)):
        matched = {pair[number] for pair in pairs}
        nodes = [node for i, node in enumerate(graph.nodes) if i not in matched]
        if nodes:
            sides.append(f"{side} {', '.join(map(_described, nodes[:3]))}{', ...' if len(nodes) > 3 else ''}")
    most = max(len(graph.nodes) for graph in graphs)
    return [f"{len(pairs)} of {most} operations with parameters match; unmatched: {'; '.join(sides)}"] if sides else []


def _described(node: Node) -> str:
    shapes = " ".join("x".join(map(str, canonical_shape(node.kind, use))) for use in list(node.uses.values())[:1])
    return f"{node.module or 'the network'} ({node.kind} {shapes})"


def _left_over(ours: nn.Module, theirs: nn.Module, entries: Mapping[str, Entry]) -> list[str]:
    """Name the parameters without a counterpart, where no unmatched operation explains them."""
    matched = {entry.target for entry in entries.values()}
    mine = [name for name, _ in ours.named_parameters() if name not in entries]
    other = [name for name, _ in theirs.named_parameters() if name not in matched]
    named = zip_longest(mine[:3], other[:3])
    return [
        " / ".join(f"{side} only: {name}" for side, name in zip(("ours", "theirs"), pair, strict=True) if name)
        for pair in named
    ]
