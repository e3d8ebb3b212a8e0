"""Which tensor of one network is which of another, whatever their names: aligned by what they do."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import zip_longest

from torch import Tensor, nn

from cnnbench.compare.entries import Alignment, Entry
from cnnbench.compare.graph import Graph, Node, build_graph, canonical_shape
from cnnbench.compare.matching import matchings
from cnnbench.compare.steps import Use
from cnnbench.compare.trace import trace


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
    graphs = [build_graph(trace(network.train(), images, keep=True)) for network in (ours, theirs)]
    for pairing in matchings(*graphs):
        yield _alignment((ours, theirs), *pairing)


def node_pairs(alignment: Alignment, ours: Graph, theirs: Graph) -> list[tuple[Node, Node]]:
    """Pair the nodes that take aligned tensors, in our order; the first with the first where several take the same."""
    waiting = defaultdict(list)
    for node in theirs.nodes:
        waiting[node.keys[:1]].append(node)
    mapping = {entry.source: entry.target for entry in alignment.entries if entry.whole}
    pairs = []
    for node in ours.nodes:
        if candidates := waiting[tuple(mapping.get(key, "") for key in node.keys[:1])]:
            pairs.append((node, candidates.pop(0)))
    return pairs


def same_keys(ours: nn.Module, theirs: nn.Module) -> bool:
    """Whether the state dicts fit into each other as they are."""
    shapes = [{key: tensor.shape for key, tensor in network.state_dict().items()} for network in (ours, theirs)]
    return shapes[0] == shapes[1]


def _alignment(
    networks: tuple[nn.Module, nn.Module], graphs: tuple[Graph, Graph], pairs: list[tuple[int, int]]
) -> Alignment:
    states = [network.state_dict(keep_vars=True) for network in networks]
    entries: list[Entry] = []
    differences = _unmatched(graphs, pairs)
    for i, j in pairs:
        found, unlike = _entries_of(graphs[0].nodes[i], graphs[1].nodes[j], *states)
        entries += found
        differences += unlike
    entries = list(dict.fromkeys(entries))
    differences += _shared_on_one_side(entries)
    entries += _unused(*states, entries)
    entries += _other_names(*states, entries)
    return Alignment("data flow", tuple(entries), (*differences, *_left_over(networks, entries)))


def _entries_of(mine: Node, other: Node, *states: Mapping[str, Tensor]) -> tuple[list[Entry], list[str]]:
    """Return the pairs of what two nodes take, and what only one of them does."""
    entries, differences = [], []
    for role in dict.fromkeys((*mine.uses, *other.uses)):
        if role not in mine.uses or role not in other.uses:
            side, node = ("ours", mine) if role in mine.uses else ("theirs", other)
            differences.append(f"{role} of {node.module} is only {side}")
        elif found := _entries(mine.kind, mine.uses[role], other.uses[role]):
            entries += found
        else:
            made = " and ".join(mine.uses[role].keys), " and ".join(other.uses[role].keys)
            differences.append(f"{role} of {mine.module} is made of {made[0]}, theirs of {made[1]}")
    if "running_mean" in mine.uses and "running_mean" in other.uses:
        prefixes = [n.uses["running_mean"].keys[0].removesuffix("running_mean") for n in (mine, other)]
        counters = [f"{prefix}num_batches_tracked" for prefix in prefixes]  # kept, and never computed with
        if all(counter in state for counter, state in zip(counters, states, strict=True)):
            entries.append(Entry(*counters))
    return entries, differences


def _entries(kind: str, mine: Use, other: Use) -> list[Entry]:
    if mine.joined or other.joined:
        return _parts(mine, other)
    if len(mine.keys) != len(other.keys):
        return []
    turn = kind == "linear" and len(mine.shape) == len(other.shape) == 2 and mine.turned != other.turned
    if kind == "linear" and {len(mine.shape), len(other.shape)} == {2, 4}:
        turn = not (mine if len(mine.shape) == 2 else other).turned
    return [Entry(key, counterpart, turn) for key, counterpart in zip(mine.keys, other.keys, strict=True)]


def _parts(mine: Use, other: Use) -> list[Entry]:
    joined, single = (mine, other) if mine.joined else (other, mine)
    length = joined.shape[0] // len(joined.keys)
    rows = [(i * length, (i + 1) * length) for i in range(len(joined.keys))]
    found = [Entry(key, single.keys[0], target_rows=part) for key, part in zip(joined.keys, rows, strict=True)]
    return found if mine.joined else [entry.inverse() for entry in found]


def _shared_on_one_side(entries: list[Entry]) -> list[str]:
    """Name what is one tensor on one side and several on the other."""
    counterparts, sources = defaultdict(set), defaultdict(set)
    for entry in (entry for entry in entries if entry.whole):
        counterparts[entry.source].add(entry.target)
        sources[entry.target].add(entry.source)
    found = [f"{key} of ours is {' and '.join(sorted(o))} of theirs" for key, o in counterparts.items() if len(o) > 1]
    return found + [f"{key} of theirs is {' and '.join(sorted(o))} of ours" for key, o in sources.items() if len(o) > 1]


def _unused(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], entries: list[Entry]) -> list[Entry]:
    """Pair by their names tensors that neither network computes with."""
    mine, other = {entry.source for entry in entries}, {entry.target for entry in entries}
    left = [key for key in ours if key not in mine and key in theirs and key not in other]
    return [Entry(key, key) for key in left if ours[key].shape == theirs[key].shape]


def _other_names(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], entries: list[Entry]) -> list[Entry]:
    """Pair the further names of tensors that a state dict has under several."""
    names = [defaultdict(list), defaultdict(list)]
    for side, state in zip(names, (ours, theirs), strict=True):
        for key, tensor in state.items():
            side[id(tensor)].append(key)
    known = {(entry.source, entry.target) for entry in entries}
    found = []
    for entry in entries:
        for source in names[0][id(ours[entry.source])]:
            for target in names[1][id(theirs[entry.target])]:
                if (source, target) not in known:
                    found.append(Entry(source, target, entry.turn, entry.source_rows, entry.target_rows))
    return found


def _unmatched(graphs: tuple[Graph, Graph], pairs: list[tuple[int, int]]) -> list[str]:
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


def _left_over(networks: tuple[nn.Module, nn.Module], entries: list[Entry]) -> list[str]:
    """Name the parameters without a counterpart."""
    known = {entry.source for entry in entries}, {entry.target for entry in entries}
    mine, other = (
        [name for name, _ in network.named_parameters() if name not in names]
        for network, names in zip(networks, known, strict=True)
    )
    return [
        " / ".join(f"{side} only: {name}" for side, name in zip(("ours", "theirs"), pair, strict=True) if name)
        for pair in zip_longest(mine[:3], other[:3])
    ]
