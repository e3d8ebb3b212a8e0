"""The size that images are brought to, their sides in proportion."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fit:
    """Brings the shorter side to a size, unless the longer one would exceed its own.

    Args:
        shorter: Pixels.
        longer: At most so many pixels; equal to `shorter`, the longer side is brought to it: a letterbox.
        canvas: Least height and width of a batch.
    """

    shorter: int
    longer: int
    canvas: tuple[int, int] = (1, 1)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that an image is brought to."""
        scale = min(self.shorter / min(height, width), self.longer / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))
