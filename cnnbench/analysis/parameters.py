"""Parameters of a module."""

from torch import nn


def count_parameters(module: nn.Module, trainable_only: bool = False) -> int:
    """Count the numbers that a module learns; a parameter that several layers share counts once.

    Args:
        module: Any module, on any device.
        trainable_only: Leave out those that are frozen.

    Returns:
        How many there are; buffers, such as BatchNorm's running mean, are none.
    """
    parameters = (parameter for parameter in module.parameters() if parameter.requires_grad or not trainable_only)
    return sum(parameter.numel() for parameter in parameters)
