"""What two networks cost for one image, stage by stage; nothing is computed."""

import torch
from torch import nn

from cnnbench.analysis import inspect_layers
from cnnbench.compare.result import Cost, SideCost, StageCost
from cnnbench.compare.sides import Side
from cnnbench.errors import UserError


def measure_cost(ours: Side, theirs: Side, size: tuple[int, int, int]) -> Cost:
    """Count parameters, multiply-adds and activations of both sides in evaluation mode.

    Multiply-adds and activations are those of convolutions, linear layers and attention's products, unfused.

    Args:
        ours: One network.
        theirs: The other.
        size: Channels, height and width of the image.

    Raises:
        UserError: A side cannot be built, or cannot run on such an image without data.
    """
    return Cost(_side_cost(ours, size), _side_cost(theirs, size))


def _side_cost(side: Side, size: tuple[int, int, int]) -> SideCost:
    inspection = inspect_layers(_without_data(side), size)
    stages: dict[str, StageCost] = {}
    for layer in inspection.layers:
        name = layer.name.partition(".")[0] or "(network)"  # the latter: used by no part, such as a class token
        stage = stages.get(name, StageCost(name, 0, 0, 0))
        stages[name] = StageCost(
            name,
            stage.parameters + layer.parameters,
            stage.macs + layer.macs,
            stage.activations + layer.activations,
        )
    costly = [stage for stage in stages.values() if stage.parameters or stage.macs]
    return SideCost(inspection.parameters, inspection.macs, inspection.activations, costly)


def _without_data(side: Side) -> nn.Module:
    """Build without data where the network's constructor allows it: sooner, and the figures are the same."""
    try:
        with torch.device("meta"):
            return side.build().eval()
    except UserError:
        return side.build()
