"""Image files as pixels, by the fastest decoder that is installed.

simplejpeg, torchvision.io and PIL decode a JPEG by the same library, libjpeg-turbo, with the same settings: their
pixels are equal to the last bit, and which of them is installed changes no run. simplejpeg is the fastest; it and PIL
decode at 1/2, 1/4 and 1/8 of the size, and simplejpeg and torchvision.io stop below the last row that is wanted.
Everything but a plain JPEG is PIL's.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torchvision.io
from PIL import Image
from torch import Tensor

from cnnbench.data import checks
from cnnbench.data.image_files import decode, reading, upright_size
from cnnbench.data.jpeg import JpegHeader, read_header, without_rows_below
from cnnbench.errors import UserError

_LARGEST_KEPT = 1 << 24  # bytes of memory that is decoded into again and again
_kept = threading.local()

SCALES = (8, 4, 2, 1)  # what a JPEG decoder divides height and width by at little cost
DECODERS = ("auto", "simplejpeg", "torchvision", "pil")

Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""
JpegDecoder = Callable[[bytearray, int, int, int, int], np.ndarray]
"""Takes a file, its height and width, the channels (1 or 3) and the scale; returns uint8 (height, width, channels), in
memory that the next call in this thread may use again."""

# EXIF orientation -> (whether rows become columns first, axes to flip then), of (height, width, channels)
_UPRIGHT = {
    1: (False, ()),
    2: (False, (1,)),
    3: (False, (0, 1)),
    4: (False, (0,)),
    5: (True, ()),
    6: (True, (1,)),
    7: (True, (0, 1)),
    8: (True, (0,)),
}


def scale_for(width: int, height: int, size: int) -> int:
    """Return the largest of `SCALES` at which the shorter side of a box still has `size` pixels."""
    return next((scale for scale in SCALES if min(width, height) >= size * scale), 1)


class EncodedImage(ABC):
    """An image file whose header has been read, and whose pixels have not been decoded.

    Attributes:
        width: In pixels, upright.
        height: The same.
    """

    width: int
    height: int

    @abstractmethod
    def decoded(self, in_chans: int, scale: int, last_row: int) -> np.ndarray:
        """Return the upright image at 1 / `scale`, uint8 (H, W, in_chans), down to `last_row` at least."""

    def pixels(self, box: Box, in_chans: int, scale: int = 1) -> Tensor:
        """Decode a part of the image.

        Args:
            box: The part, in pixels of the upright image.
            in_chans: 1 for grey, 3 for RGB.
            scale: One of `SCALES`: what height and width are divided by where the file is a JPEG.

        Returns:
            uint8 (in_chans, height, width), the channels last in memory.
        """
        array = self.decoded(in_chans, scale, box[3] - 1)
        across = array.shape[1]  # the width is never cut
        down = self.height if across == self.width else -(-self.height // scale)
        left, right = (round(side * across / self.width) for side in box[::2])
        top, bottom = (round(side * down / self.height) for side in box[1::2])
        return torch.from_numpy(array[top:bottom, left:right].copy()).permute(2, 0, 1)


class _Jpeg(EncodedImage):
    def __init__(self, data: bytes, header: JpegHeader, decoder: JpegDecoder) -> None:
        self.data = data
        self.header = header
        self.decoder = decoder
        self.turned = _UPRIGHT[header.orientation][0]
        size = header.width, header.height
        self.width, self.height = size[::-1] if self.turned else size

    def decoded(self, in_chans: int, scale: int, last_row: int) -> np.ndarray:
        data, height = bytearray(self.data), self.header.height
        if self.header.orientation == 1:
            height = without_rows_below(data, self.header, last_row, scale)
        array = self.decoder(data, height, self.header.width, in_chans, scale)
        turned, flipped = _UPRIGHT[self.header.orientation]
        return np.flip(array.swapaxes(0, 1) if turned else array, flipped)


class _Other(EncodedImage):
    """A file that PIL reads."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.width, self.height = upright_size(image)

    def decoded(self, in_chans: int, scale: int, last_row: int) -> np.ndarray:
        array = np.asarray(decode(self.image, in_chans, scale))
        return array.reshape(*array.shape[:2], in_chans)


@contextmanager
def encoded_image(path: Path, decoder: str) -> Iterator[EncodedImage]:
    """Open an image; what fails within names the file.

    Args:
        path: The file.
        decoder: One of `DECODERS`, from `installed`.

    Raises:
        ImageFileError: The file is not a whole image.
    """
    with reading(path), in_memory(path.read_bytes(), decoder) as image:
        yield image


@contextmanager
def in_memory(data: bytes, decoder: str) -> Iterator[EncodedImage]:
    """Open an image of which all bytes have been read."""
    header = read_header(data) if decoder != "pil" else None
    if header is not None:
        yield _Jpeg(data, header, _DECODERS[decoder])
    else:
        with Image.open(BytesIO(data)) as image:
            yield _Other(image)


@cache
def installed(decoder: str) -> str:
    """Return the decoder that a choice stands for: itself, or for `auto` the fastest one.

    Raises:
        UserError: There is no such decoder, or it is not installed.
    """
    checks.one_of("decoder", decoder, DECODERS)
    there = {
        "simplejpeg": find_spec("simplejpeg") is not None,
        "torchvision": hasattr(torchvision.io, "decode_jpeg"),  # deprecated from 0.29 on
        "pil": True,
    }
    if decoder == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there[decoder]:
        raise UserError(f"decoder is {decoder!r}, which is not installed; 'auto' takes the fastest that is")
    return decoder


def _simplejpeg(data: bytearray, height: int, width: int, in_chans: int, scale: int) -> np.ndarray:
    from simplejpeg import decode_jpeg

    colours = "RGB" if in_chans == 3 else "GRAY"
    smallest = {"min_height": -(-height // scale), "min_width": -(-width // scale)}
    room = _room(height * width * in_chans)
    # not strict: a file that says a smaller height has bytes too many; PIL overlooks the same flaws
    return decode_jpeg(data, colours, **smallest, strict=False, buffer=room)


def _room(numbers: int) -> np.ndarray | None:
    """Return memory that this thread decodes into again and again: new one costs a page fault every 4 KB."""
    if numbers > _LARGEST_KEPT:
        return None
    if getattr(_kept, "room", None) is None or _kept.room.size < numbers:
        _kept.room = np.empty(numbers, np.uint8)
    return _kept.room


def _torchvision(data: bytearray, height: int, width: int, in_chans: int, scale: int) -> np.ndarray:
    if scale > 1:
        return _pil(data, height, width, in_chans, scale)
    mode = torchvision.io.ImageReadMode.RGB if in_chans == 3 else torchvision.io.ImageReadMode.GRAY
    return torchvision.io.decode_jpeg(torch.frombuffer(data, dtype=torch.uint8), mode).permute(1, 2, 0).numpy()


def _pil(data: bytearray, height: int, width: int, in_chans: int, scale: int) -> np.ndarray:
    with Image.open(BytesIO(data)) as image:
        image.draft("L" if in_chans == 1 else "RGB", (width // scale, height // scale))
        array = np.asarray(image.convert("L" if in_chans == 1 else "RGB"))
    return array.reshape(*array.shape[:2], in_chans)


_DECODERS: dict[str, JpegDecoder] = {"simplejpeg": _simplejpeg, "torchvision": _torchvision}
