"""How large a convolution's or a pool's output is: Dumoulin, Visin, 2016, https://arxiv.org/abs/1603.07285."""

from cnnbench.errors import UserError


def output_size(
    size: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """Return a convolution's or a pool's output size along one side.

    Args:
        size: Pixels of the input along that side.
        kernel_size: Taps of the kernel.
        stride: Steps between two outputs.
        padding: Pixels added at either end.
        dilation: Steps between two taps.
        ceil_mode: Keep a last window that hangs over the end, as torch's pools do on request: it has to begin in the
            input or in the padding before it.

    Returns:
        The number of outputs.

    Raises:
        UserError: If an argument is not possible, or the kernel is larger than the padded input.
    """
    arguments = {"size": size, "kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    for name, value in arguments.items():
        least = 0 if name == "padding" else 1
        if not isinstance(value, int) or value < least:
            raise UserError(f"{name} is {value!r}: it must be a whole number of at least {least}")
    span = dilation * (kernel_size - 1) + 1
    room = size + 2 * padding - span
    if room < 0:
        raise UserError(f"a kernel that spans {span} pixels does not fit into {size + 2 * padding}, padding included")
    if not ceil_mode:
        return room // stride + 1
    outputs = -(-room // stride) + 1
    return outputs - 1 if (outputs - 1) * stride >= size + padding else outputs
