"""Image files: found below a folder, and decoded upright, in 8 bits, grey or RGB, whatever they hold."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from cnnbench.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
_TRANSPOSED = range(5, 9)  # EXIF orientations that exchange width and height
_MODES = {1: "L", 3: "RGB"}


class ImageFileError(UserError):
    """A file that is not a whole image.

    A worker process hands an exception to the main process as its class and its printed traceback, and torch
    builds a new one with that text for a message; what follows this class's name in it is the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def find_classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in `folder`, sorted: the classes of an ImageNet-style folder."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."))


def find_images(folder: Path) -> list[Path]:
    """Return all images below `folder`, sorted.

    Raises:
        UserError: There is none.
    """
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(EXTENSIONS) and name[0] != "."
    ]
    if not found:
        raise UserError(f"no images below {folder} (looked for {', '.join(EXTENSIONS)})")
    return sorted(found)


@contextmanager
def image_file(path: Path) -> Iterator[Image.Image]:
    """Open an image, its pixels not yet decoded; what fails within names the file.

    Raises:
        ImageFileError: The file is not a whole image.
    """
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # PIL raises nearly anything on a damaged file
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "not an image"
        else:
            reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageFileError(f"{path} cannot be read as an image: {reason}") from error


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) after the rotation that EXIF asks for, without decoding."""
    transposed = image.getexif().get(ExifTags.Base.Orientation, 1) in _TRANSPOSED
    return image.size[::-1] if transposed else image.size


def decode(image: Image.Image, in_chans: int, fraction: float = 1.0) -> Image.Image:
    """Return an opened image upright, as 8-bit grey or RGB.

    Args:
        image: From `image_file`.
        in_chans: 1 for grey, 3 for RGB.
        fraction: How much of width and height suffices: a JPEG is decoded at 1/2, 1/4 or 1/8 where that is
            enough.
    """
    if fraction <= 0.5:
        image.draft(None, tuple(int(np.ceil(side * fraction)) for side in image.size))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, which PIL would clip
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(_MODES[in_chans])
