"""Multiply-adds of a module."""

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbench.analysis.dry_run import InputSize, dry_run, prepare


def count_macs(module: nn.Module, input_size: InputSize = None, in_chans: int | None = None) -> int:
    """Count the multiply-adds of one image in evaluation mode, without computing anything.

    Convolutions and matrix products count, attention's among them, as in torch's FLOP counter, whose figure is twice
    this one. Norms, activations, pools and additions do not.

    Args:
        module: Any network of images; nothing in it changes.
        input_size: Side of a square image, (height, width) or (channels, height, width); None: the network's usual.
        in_chans: Channels of the image; None: those of the first convolution.

    Returns:
        The multiply-adds: half the floating-point operations.

    Raises:
        UserError: If the network cannot run on such an image.
    """
    copy, image = prepare(module, input_size, in_chans)
    with FlopCounterMode(display=False) as counter:
        dry_run(copy, image)
    return counter.get_total_flops() // 2
