"""A network as a graph of the operations that take parameters: what feeds what, whatever the code looks like.

Operations without parameters are the graph's edges. Of these only what tells inputs apart is kept: the offset at which
a tensor enters a concatenation, and the side of a product or a difference.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

from cnnbench.compare.operations import STRUCTURAL
from cnnbench.compare.steps import IMAGE, Op, Trace, Use

IMAGE_NODE = -1
_SIDED = frozenset(("linear", "sub", "div", "pow", "where", "rsub"))  # operations whose inputs cannot be swapped
_BIASED = ("linear", "convolution", "scale")

Source = tuple[int, int, tuple]
"""Node, offset in concatenations on the way, sides of the products on the way."""


@dataclass
class Node:
    """An operation with parameters.

    Attributes:
        op: It; of a layer whose bias is added by an operation of its own, the layer's.
        kind: "convolution", "linear" (1x1 convolutions too), "batch_norm", "scale" (of other norms, layer scale), or
            the operation's name.
        uses: Parameters by role: weight, bias, running_mean, running_var.
        sources: Where its inputs come from: argument's number, and what it is fed by.
        end: Its last operation: the one that adds the bias.
    """

    op: Op
    kind: str
    uses: dict[str, Use]
    sources: frozenset[tuple[int, Source]]
    end: Op = field(default=None)

    @property
    def keys(self) -> tuple[str, ...]:
        """Entries of the state dict that it takes."""
        return tuple(key for use in self.uses.values() for key in use.keys)

    @property
    def label(self) -> tuple:
        """What it is, before its surroundings are looked at."""
        return self.kind, tuple(sorted((role, canonical_shape(self.kind, use)) for role, use in self.uses.items()))

    @property
    def module(self) -> str:
        """The path of its module."""
        return self.op.module


@dataclass
class Graph:
    """All of a network's nodes in order of execution.

    Attributes:
        nodes: They.
        outputs: What feeds each tensor of the network's output.
        owner: The node that an operation belongs to, by the operation's index.
    """

    nodes: list[Node]
    outputs: list[frozenset[Source]]
    owner: dict[int, int]


def build_graph(run: Trace) -> Graph:
    """Return the graph of a run."""
    nodes: list[Node] = []
    owner: dict[int, int] = {}
    sources: dict[int, frozenset[Source]] = {IMAGE: frozenset({(IMAGE_NODE, 0, ())})}
    for op in run.ops:
        if op.uses and (layer := _layer_without_bias(op, run, nodes, owner)) is not None:
            owner[op.index] = layer
            nodes[layer].uses["bias"] = next(iter(op.uses.values()))
            nodes[layer].end = op
            found = frozenset({(layer, 0, ())})
        elif op.uses:
            owner[op.index] = len(nodes)
            found = frozenset({(len(nodes), 0, ())})
            kind = _kind(op)
            fed = [(i, s) for i, (_, value) in enumerate(op.inputs) for s in sources[value]]
            nodes.append(Node(op, kind, _roles(op, kind), frozenset(fed), op))
        else:
            found = _passed_on(op, run, sources)
        sources |= dict.fromkeys(op.outputs, found)
    outputs = [sources.get(value, frozenset()) for value in run.outputs]
    return Graph(nodes, outputs, owner)


def canonical_shape(kind: str, use: Use) -> tuple[int, ...]:
    """Return a parameter's shape as it is the same for all ways to write the operation."""
    lengths = tuple(length for length in use.shape if length != 1)
    if kind == "linear" and len(use.shape) == 2:
        return use.shape if use.turned else use.shape[::-1]  # (out, in): x @ weight.T
    if kind == "linear" and len(use.shape) > 2:
        return use.shape[0], prod(use.shape[1:])  # a convolution that is a product of matrices
    return use.shape if kind == "convolution" else lengths


def _kind(op: Op) -> str:
    if op.name == "convolution":
        return "linear" if _is_product(op) else "convolution"
    return "scale" if op.name in ("layer_norm", "group_norm", "mul") else op.name


def _is_product(op: Op) -> bool:
    """Tell whether a convolution is a product of matrices: of 1x1 kernels, or of kernels as large as the map."""
    weight = op.uses.get("weight")
    if weight is None or op.settings["groups"] != 1 or op.settings["transposed"]:
        return False
    whole = prod(op.shape[2:]) == 1 and not any(op.settings["padding"])
    return whole or prod(weight.shape[2:]) == 1


def _roles(op: Op, kind: str) -> dict[str, Use]:
    """Return the parameters by what they are for, the weight first."""
    if op.name == "linear":
        roles = {"bias" if len(use.shape) == 1 else "weight": use for use in op.uses.values()}
        return {role: roles[role] for role in ("weight", "bias") if role in roles}
    if op.name in ("mul", "add"):
        return {"weight": next(iter(op.uses.values()))}
    return dict(op.uses)


def _layer_without_bias(op: Op, run: Trace, nodes: list[Node], owner: dict[int, int]) -> int | None:
    """Return the node that an addition of a parameter gives its bias, if there is one right before it."""
    if op.name != "add" or len(op.inputs) != 1 or len(op.uses) != 1:
        return None
    maker = run.maker.get(op.inputs[0][1])
    while maker is not None and maker.index not in owner and maker.name in STRUCTURAL and len(maker.inputs) == 1:
        maker = run.maker.get(maker.inputs[0][1])
    if maker is None or maker.index not in owner:
        return None
    layer = nodes[owner[maker.index]]
    if layer.kind not in _BIASED or "bias" in layer.uses or "weight" not in layer.uses:
        return None
    added = prod(next(iter(op.uses.values())).shape)
    return owner[maker.index] if added == canonical_shape(layer.kind, layer.uses["weight"])[0] else None


def _passed_on(op: Op, run: Trace, sources: dict[int, frozenset[Source]]) -> frozenset[Source]:
    found: set[Source] = set()
    offset = 0
    for position, (_, value) in enumerate(op.inputs):
        for node, start, sides in sources[value]:
            more = ((op.name, position),) if op.name in _SIDED and len(op.inputs) > 1 else ()
            found.add((node, start + offset, sides + more))
        if op.name == "cat":
            shape = run.shapes[value]
            offset += shape[op.settings.get("dim", 0) % len(shape)] if shape else 0
    return frozenset(found)


def refine(
    graphs: Iterable[Graph], marks: Iterable[dict[int, int]], behind: bool = True, ahead: bool = True
) -> list[list[list[int]]]:
    """Return every graph's labels, round by round: equal ones cannot be told apart by their surroundings so far.

    Weisfeiler and Leman's refinement: in each round a node's label takes in those of what feeds it and what it feeds,
    until no further node is told from another.

    Args:
        graphs: Refined together, so that labels mean the same in all.
        marks: For each graph nodes that are told apart from the start, and by what.
        behind: Look at what feeds a node.
        ahead: Look at what a node feeds.
    """
    graphs = list(graphs)
    book: dict[tuple, int] = {}
    fed = [_fed(graph) for graph in graphs]
    rounds = [
        [book.setdefault((node.label, mark.get(i)), len(book)) for i, node in enumerate(graph.nodes)]
        for graph, mark in zip(graphs, marks, strict=True)
    ]
    history = [[labels] for labels in rounds]
    classes = len({label for labels in rounds for label in labels})
    while True:
        book = {}
        rounds = [
            [
                book.setdefault((label, behind and _behind(node, labels), ahead and _ahead(feeds, labels)), len(book))
                for label, node, feeds in zip(labels, graph.nodes, fed_by, strict=True)
            ]
            for graph, fed_by, labels in zip(graphs, fed, rounds, strict=True)
        ]
        found = len({label for labels in rounds for label in labels})
        if found == classes:
            return history
        classes = found
        for labels, before in zip(rounds, history, strict=True):
            before.append(labels)


def _behind(node: Node, labels: list[int]) -> tuple:
    named = [IMAGE_NODE, *labels]  # index -1 is moved to the front
    return tuple(sorted((place, named[source + 1], offset, sides) for place, (source, offset, sides) in node.sources))


def _ahead(feeds: list[tuple], labels: list[int]) -> tuple:
    return tuple(sorted((labels[target] if target >= 0 else target, *rest) for target, *rest in feeds))


def _fed(graph: Graph) -> list[list[tuple]]:
    """Return for each node what it feeds: (node, argument, offset, sides); outputs are counted -1, -2, ..."""
    feeds: list[list[tuple]] = [[] for _ in graph.nodes]
    for target, node in enumerate(graph.nodes):
        for argument, (source, offset, sides) in node.sources:
            if source != IMAGE_NODE:
                feeds[source].append((target, argument, offset, sides))
    for number, found in enumerate(graph.outputs):
        for source, offset, sides in found:
            if source != IMAGE_NODE:
                feeds[source].append((-1 - number, 0, offset, sides))
    return feeds
