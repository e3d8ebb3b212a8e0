"""What a JPEG's first bytes say: size, orientation, and where its height stands (ITU-T T.81, annex B)."""

from dataclasses import dataclass

from PIL import ExifTags, Image

_START, _END = b"\xff\xd8", b"\xff\xd9"
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, Huffman coded
_STANDALONE = (0x01, *range(0xD0, 0xD8))  # markers without a length
_EXIF = b"Exif\x00\x00"
_SPARE_ROWS = 4  # below the last one wanted: smooth upsampling of the colours looks at its neighbours


@dataclass(frozen=True)
class JpegHeader:
    """Of a JPEG that every decoder reads alike.

    Attributes:
        width: In pixels, as stored.
        height: The same.
        orientation: 1 to 8, as EXIF counts.
        height_at: Where in the file the two bytes of the height stand.
    """

    width: int
    height: int
    orientation: int
    height_at: int


def read_header(data: bytes) -> JpegHeader | None:
    """Return the header of a whole JPEG of 8 bits, grey or of three colours; None of any other file.

    What is none, such as CMYK, 12 bits, arithmetic coding or a file without an end, is for PIL to read or to refuse.
    """
    if not (data.startswith(_START) and data.endswith(_END)):
        return None
    place, orientation = 2, 1
    while place + 10 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _STANDALONE:
            place += 1 if marker == 0xFF else 2
            continue
        body = place + 4
        if marker in _FRAMES:
            height, width = (int.from_bytes(data[at : at + 2], "big") for at in (body + 1, body + 3))
            plain = data[body] == 8 and data[body + 5] in (1, 3) and height > 0 and width > 0
            return JpegHeader(width, height, orientation, body + 1) if plain else None
        end = place + 2 + int.from_bytes(data[place + 2 : body], "big")
        if marker == 0xE1 and data.startswith(_EXIF, body):
            orientation = _orientation(data[body:end])
        place = end
    return None


def without_rows_below(data: bytearray, header: JpegHeader, last: int, scale: int = 1) -> int:
    """Let a JPEG say that it ends soon after row `last`, so that no decoder reads farther.

    The rows of a JPEG come in order: the pixels above stay the same, to the last bit.

    Args:
        data: The file, changed in place.
        header: Its header.
        last: The last row that is wanted, of the full size.
        scale: What decoding will divide height and width by.

    Returns:
        The height that it says now.
    """
    height = min(header.height, last + 1 + _SPARE_ROWS * scale)
    data[header.height_at : header.height_at + 2] = height.to_bytes(2, "big")
    return height


def _orientation(exif: bytes) -> int:
    read = Image.Exif()
    read.load(exif)
    value = read.get(ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1
