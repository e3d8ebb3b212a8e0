"""Image files, decoded by PIL: upright, in 8 bits, grey or RGB, whatever they hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from cnnbench.errors import UserError

_TRANSPOSED = range(5, 9)  # EXIF orientations that exchange width and height
_MODES = {1: "L", 3: "RGB"}


class ImageFileError(UserError):
    """A file that is not a whole image.

    A worker process hands an exception to the main process as its class and its printed traceback, and torch
    builds a new one with that text for a message; what follows this class's name in it is the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file in what fails within.

    Raises:
        ImageFileError: The file is not a whole image.
    """
    try:
        yield
    except Exception as error:  # PIL raises nearly anything on a damaged file
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "not an image"
        else:
            reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageFileError(f"{path} cannot be read as an image: {reason}") from error


@contextmanager
def image_file(path: Path) -> Iterator[Image.Image]:
    """Open an image, its pixels not yet decoded; what fails within names the file.

    Raises:
        ImageFileError: The file is not a whole image.
    """
    with reading(path), Image.open(path) as image:
        yield image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) after the rotation that EXIF asks for, without decoding."""
    transposed = image.getexif().get(ExifTags.Base.Orientation, 1) in _TRANSPOSED
    return image.size[::-1] if transposed else image.size


def decode(image: Image.Image, in_chans: int, scale: int = 1) -> Image.Image:
    """Return an opened image upright, as 8-bit grey or RGB.

    Args:
        image: From `image_file`.
        in_chans: 1 for grey, 3 for RGB.
        scale: 1, 2, 4 or 8: what a JPEG's height and width are divided by; others stay as large as they are.
    """
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, which PIL would clip
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(_MODES[in_chans])
