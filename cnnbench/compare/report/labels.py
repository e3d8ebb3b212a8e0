"""Labels beside the points of a plot, where there is room for them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 7.5  # points
_WIDTH, _HEIGHT = 0.56, 1.15  # of a character and of a line, over the size of the font
_GAP, _RADIUS = 4.0, 2.5  # points: between a point and its label, and of a point
# Where a label may stand: the direction from its point, and which of its sides is nearest to it.
_PLACES = (
    (1, 0, "left", "center"),
    (-1, 0, "right", "center"),
    (0, 1, "center", "bottom"),
    (0, -1, "center", "top"),
    (0.7, 0.7, "left", "bottom"),
    (-0.7, 0.7, "right", "bottom"),
    (0.7, -0.7, "left", "top"),
    (-0.7, -0.7, "right", "top"),
)
_BEFORE = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}  # share that lies before the anchor


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "_Box") -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.top <= other.bottom or other.top <= self.bottom)

    def within(self, other: "_Box") -> bool:
        beside = self.left >= other.left and self.right <= other.right
        return beside and self.bottom >= other.bottom and self.top <= other.top


def place_labels(axes: "Axes", points: Sequence[tuple[float, float, str]]) -> None:
    """Write each point's label beside it unless it would cover another label or point.

    Args:
        axes: With its limits and its place in the figure set, at 72 dots an inch.
        points: x, y and label; the first have the first choice.
    """
    places = [tuple(axes.transData.transform((x, y))) for x, y, _ in points]
    taken = [_Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in places]
    room = _Box(*axes.bbox.extents)
    for (x, y), (*_, label) in zip(places, points, strict=True):
        for right, up, horizontal, vertical in _PLACES:
            anchor = x + right * _GAP, y + up * _GAP
            box = _box(anchor, label, horizontal, vertical)
            if box.within(room) and not any(map(box.overlaps, taken)):
                taken.append(box)
                where = {"ha": horizontal, "va": vertical, "transform": None}
                axes.text(*anchor, label, fontsize=SIZE, **where)
                break


def _box(anchor: tuple[float, float], label: str, horizontal: str, vertical: str) -> _Box:
    width, height = _WIDTH * SIZE * len(label), _HEIGHT * SIZE
    left, bottom = anchor[0] - _BEFORE[horizontal] * width, anchor[1] - _BEFORE[vertical] * height
    return _Box(left, bottom, left + width, bottom + height)
