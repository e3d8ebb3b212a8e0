"""Textured canvases: two colours in stripes, checks, spots or gradients, clouds and grain, all in whole numbers."""

from functools import cache

import numpy as np

# Papers, light, and boards, dark: red, green, blue.
_PAPERS = np.array(
    [(238, 230, 212), (210, 226, 240), (218, 236, 214), (242, 218, 216), (226, 218, 240), (244, 236, 190)]
)
_BOARDS = np.array([(26, 50, 40), (34, 34, 44), (22, 36, 70), (60, 34, 38), (48, 32, 60), (52, 46, 30)])
_DIRECTIONS = np.array([(8, 0), (0, 8), (6, 6), (6, -6), (7, 3), (3, 7), (7, -3), (3, -7)])  # of x and y, about 8 long
_LONG_WAVES = 4  # one texture in so many is a gradient across the canvas
_WAVES = (6, 24)  # half a wave, in pixels
_NODES = 5  # of clouds, a side
_CLOUDS, _GRAIN = 16, 8  # levels either way
_SETTINGS = 9

DRAWS = _SETTINGS + _NODES**2 + 1
"""Numbers of [0, 1) that a canvas takes."""
UNIT = 64
"""What the weights of `enlarging` sum to."""


def canvas(size: int, draws: np.ndarray) -> tuple[np.ndarray, bool]:
    """Make a canvas.

    Args:
        size: Height and width.
        draws: float64 (DRAWS,) of [0, 1).

    Returns:
        int32 (3, size, size) of 0..255, and whether it is light.
    """
    is_light = draws[0] < 0.5
    colours = _PAPERS if is_light else _BOARDS
    base = colours[int(draws[1] * len(colours))]
    other = base + (int(draws[2] * 16) + 12) * (-1 if is_light else 1)  # towards the middle: contrast with ink stays
    pattern = _pattern(size, draws[3:_SETTINGS])
    clouds = _clouds(size, draws[_SETTINGS:-1])
    shade = clouds + _grain(size, draws[-1])
    image = base[:, None, None] + ((other - base)[:, None, None] * pattern >> 8) + shade
    return np.clip(image, 0, 255).astype(np.int32), bool(is_light)


def _pattern(size: int, draws: np.ndarray) -> np.ndarray:
    """Return how much each pixel has of the second colour: int32 (size, size) of 0..256."""
    x, y = _DIRECTIONS[int(draws[0] * len(_DIRECTIONS))]
    shortest, longest = _WAVES
    wave = shortest + int(draws[1] * (longest - shortest + 1))
    if draws[2] * _LONG_WAVES < 1:
        wave = 2 * size
    phase = int(draws[3] * 16 * wave)
    pattern = _waves(size, x, y, 8 * wave, phase)
    if draws[4] < 0.5:  # spots, where waves cross
        pattern = pattern * _waves(size, -y, x, 8 * wave, phase) >> 8
    hardness = 1 + 7 * (draws[5] < 0.5)
    return np.clip((pattern - 128) * hardness + 128, 0, 256)


def _waves(size: int, x: int, y: int, half: int, phase: int) -> np.ndarray:
    """Return triangular waves along (x, y): int32 (size, size) of 0..256."""
    steps = np.arange(size, dtype=np.int32)
    along = steps * x + steps[:, None] * y + phase
    return np.abs(along % (2 * half) - half) * 256 // half


def _clouds(size: int, draws: np.ndarray) -> np.ndarray:
    levels = (draws * 256).astype(np.int64).reshape(_NODES, _NODES).astype(np.float32) - 128
    table = enlarging(size, _NODES)
    return (table @ levels @ table.T).astype(np.int32) * _CLOUDS // (UNIT * UNIT * 128)


def _grain(size: int, draw: float) -> np.ndarray:
    """Return a part of one sheet of noise: int32 (size, size)."""
    sheet = _sheet(2 * size)
    place = int(draw * (size + 1) ** 2)
    top, left = divmod(place, size + 1)
    return sheet[top : top + size, left : left + size]


@cache
def _sheet(size: int) -> np.ndarray:
    """Return noise, a hash of the place: int32 (size, size)."""
    place = np.arange(size * size, dtype=np.uint64).reshape(size, size)
    bits = place * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ bits >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9)
    return ((bits >> np.uint64(56)).astype(np.int32) - 128) * _GRAIN >> 7


@cache
def enlarging(size: int, nodes: int) -> np.ndarray:
    """Return the weights that interpolate `size` pixels from `nodes` values, linearly: float32 (size, nodes)."""
    place = np.clip((np.arange(size) + 0.5) * nodes / size - 0.5, 0, nodes - 1)
    node = np.minimum(place.astype(np.int64), nodes - 2)
    part = np.rint((place - node) * UNIT)
    table = np.zeros((size, nodes), np.float32)
    table[np.arange(size), node] = UNIT - part
    table[np.arange(size), node + 1] += part
    return table
