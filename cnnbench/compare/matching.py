"""Which node of one graph is which of another: by their surroundings, where these leave a choice by trying."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import islice, permutations

from cnnbench.compare.graph import IMAGE_NODE, Graph, Node, Source, canonical_shape, refine
from cnnbench.compare.steps import Use

ATTEMPTS = 24  # ways to resolve nodes that cannot be told apart

Matching = tuple[tuple[Graph, Graph], list[tuple[int, int]]]
"""Two graphs, and the pairs of their nodes."""


def matchings(ours: Graph, theirs: Graph) -> Iterator[Matching]:
    """Yield pairings of the nodes, the likeliest first; a part of them where the graphs differ.

    Where one side projects queries, keys and values apart and the other by one matrix, the three are one node.
    """
    if _alike(ours, theirs):
        candidates = [(ours, theirs)]
    else:
        joined = [(graph, theirs) for graph in _joined(ours)] + [(ours, graph) for graph in _joined(theirs)]
        candidates = [graphs for graphs in joined if _alike(*graphs)]
    if not candidates:
        yield (ours, theirs), _partial(ours, theirs)
    yield from islice(((graphs, pairs) for graphs in candidates for pairs in _resolved(*graphs, {}, {})), ATTEMPTS)


def _alike(ours: Graph, theirs: Graph) -> bool:
    mine, other = (rounds[-1] for rounds in refine((ours, theirs), ({}, {})))
    return sorted(mine) == sorted(other)


def _resolved(
    ours: Graph, theirs: Graph, our_marks: dict[int, int], their_marks: dict[int, int]
) -> Iterator[list[tuple[int, int]]]:
    """Yield the complete pairings: of nodes that cannot be told apart, the first is tried with each candidate."""
    our_labels, their_labels = (rounds[-1] for rounds in refine((ours, theirs), (our_marks, their_marks)))
    if sorted(our_labels) != sorted(their_labels):
        return
    candidates = defaultdict(list)
    for i, label in enumerate(their_labels):
        candidates[label].append(i)
    for i, label in enumerate(our_labels):
        if len(candidates[label]) > 1:
            for candidate in candidates[label]:
                mark = len(our_marks)
                yield from _resolved(ours, theirs, {**our_marks, i: mark}, {**their_marks, candidate: mark})
            return
    yield [(i, candidates[label][0]) for i, label in enumerate(our_labels)]


def _partial(ours: Graph, theirs: Graph) -> list[tuple[int, int]]:
    """Pair what has like surroundings; then, in order, what is alike in itself, or but for a bias."""
    pairs: dict[int, int] = {}
    while found := _further(ours, theirs, pairs):
        pairs |= found
    for label in (lambda node: node.label, _weight):
        left, others = _without(len(ours.nodes), pairs.keys()), _without(len(theirs.nodes), pairs.values())
        labels = [label(ours.nodes[i]) for i in left], [label(theirs.nodes[i]) for i in others]
        for a, b, size in SequenceMatcher(None, *labels, autojunk=False).get_matching_blocks():
            pairs |= dict(zip(left[a : a + size], others[b : b + size], strict=True))
    return sorted(pairs.items())


def _further(ours: Graph, theirs: Graph, pairs: dict[int, int]) -> dict[int, int]:
    """Return further pairs, given some: of nodes alike on both sides of them, or behind them, or ahead of them."""
    several: dict[int, int] = {}
    for behind, ahead in ((True, True), (True, False), (False, True)):
        marks = {i: mark for mark, i in enumerate(pairs)}, {j: mark for mark, j in enumerate(pairs.values())}
        history = refine((ours, theirs), marks, behind, ahead)
        for labels in zip(*(reversed(rounds) for rounds in history), strict=True):
            alike = _alike_groups(labels, pairs)
            if single := {mine[0]: other[0] for mine, other in alike if len(mine) == 1}:
                return single
            if alike and not several:
                several = dict(zip(*alike[0], strict=True))
    return several


def _alike_groups(labels: Sequence[list[int]], pairs: dict[int, int]) -> list[tuple[list[int], list[int]]]:
    """Return the unmatched nodes of both sides that have a label in common, where they are as many."""
    groups = defaultdict(lambda: ([], []))
    for side, matched in enumerate((pairs.keys(), pairs.values())):
        for i in _without(len(labels[side]), matched):
            groups[labels[side][i]][side].append(i)
    return [group for group in groups.values() if len(group[0]) == len(group[1])]


def _weight(node: Node) -> tuple:
    """Return what a node is but for its bias."""
    return node.kind, next((canonical_shape(node.kind, use) for use in node.uses.values()), ())


def _without(count: int, taken: Sequence[int]) -> list[int]:
    taken = set(taken)
    return [i for i in range(count) if i not in taken]


def _joined(graph: Graph) -> Iterator[Graph]:
    """Yield a graph with its triples of like projections of one input joined, in each order of the three."""
    groups = defaultdict(list)
    for i, node in enumerate(graph.nodes):
        if node.kind == "linear" and all(len(use.shape) != 2 or use.turned for use in node.uses.values()):
            groups[node.label, node.sources].append(i)
    triples = [tuple(group) for group in groups.values() if len(group) == 3]
    if triples:
        for order in permutations(range(3)):
            yield _with_triples(graph, triples, order)


def _with_triples(graph: Graph, triples: Sequence[tuple[int, ...]], order: Sequence[int]) -> Graph:
    first = {i: triple[0] for triple in triples for i in triple}
    left = [i for i in range(len(graph.nodes)) if first.get(i, i) == i]
    places = {i: left.index(first.get(i, i)) for i in range(len(graph.nodes))} | {IMAGE_NODE: IMAGE_NODE}

    def moved(source: Source) -> Source:
        return places[source[0]], *source[1:]

    nodes = [graph.nodes[i] for i in left]
    for triple in triples:
        nodes[places[triple[0]]] = _one_node([graph.nodes[triple[i]] for i in order])
    nodes = [replace(n, sources=frozenset((place, moved(source)) for place, source in n.sources)) for n in nodes]
    outputs = [frozenset(map(moved, found)) for found in graph.outputs]
    return Graph(nodes, outputs, {op: places[i] for op, i in graph.owner.items()})


def _one_node(nodes: Sequence[Node]) -> Node:
    uses = {}
    for role, use in nodes[0].uses.items():
        keys = tuple(node.uses[role].keys[0] for node in nodes)
        uses[role] = Use(keys, (len(nodes) * use.shape[0], *use.shape[1:]), use.turned, joined=True)
    return replace(nodes[0], uses=uses)
