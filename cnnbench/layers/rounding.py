"""Channel counts that hardware likes."""


def make_divisible(value: float, divisor: int = 8, round_limit: float = 0.9) -> int:
    """Round to the nearest multiple of `divisor`, at least one; up where it would fall below `round_limit` of `value`.

    As in MobileNet's and EfficientNet's own code: 16 x 1.2 channels are 24, since 16 would lose over 10 %.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded
