"""How deep in a network its parameters are, block by block."""

import math
from collections.abc import Iterable

from torch import nn

from cnnbench.layers.stage import Stage


def parameter_depths(network: nn.Module, chain: Iterable[nn.Module], coarse: bool = False) -> dict[str, float]:
    """Return the depth of each parameter by its name.

    Depth 0 is the stem: what runs before the first `Stage`, and parameters of the network itself. Each block of a
    stage is deeper than the one before. What stands behind a stage belongs to the last block before it, and what a
    stage's module holds beside its blocks to the first of them. In a chain without stages each module is a block. What
    the chain does not hold, the head, is infinitely deep.

    Args:
        network: Whose parameters are meant.
        chain: Its modules in the order in which they run, without the head.
        coarse: Count stages instead of blocks.
    """
    layers = _layers(list(chain), coarse)
    depths: dict[int, float] = {id(parameter): 0 for _, parameter in network.named_parameters(recurse=False)}
    for depth, modules in reversed(list(enumerate(layers))):  # a stage's module holds blocks deeper than its own depth
        for parameter in nn.ModuleList(modules).parameters():
            depths.setdefault(id(parameter), depth)
    return {name: depths.get(id(parameter), math.inf) for name, parameter in network.named_parameters()}


def _layers(chain: list[nn.Module], coarse: bool) -> list[list[nn.Module]]:
    stages = [next((part for part in module.modules() if isinstance(part, Stage)), None) for module in chain]
    if all(stage is None for stage in stages):
        return [[module] for module in chain]
    layers: list[list[nn.Module]] = [[]]
    for module, stage in zip(chain, stages, strict=True):
        if stage is None:
            layers[-1].append(module)
        elif coarse:
            layers.append([module])
        else:
            blocks = [[block] for block in stage] or [[]]
            blocks[0].append(module)
            layers += blocks
    return layers
