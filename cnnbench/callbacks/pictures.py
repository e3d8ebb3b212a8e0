"""Images as a person looks at them, and boxes drawn on them."""

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

_SIDE = 640  # pixels that the longer side of a picture has at least, so that labels can be read on it
_QUALITY = 90  # of JPEGs
_COLOURS = "tab10", "tab20b"  # matplotlib's; neighbours in them are easily told apart


def shown(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return a normalised image (C, H, W) as uint8 on the CPU."""
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (mean, std))
    return ((image.detach().float().cpu() * std + mean).clamp(0, 1) * 255).round().byte()


def write_jpeg(image: Tensor, path: Path | BytesIO) -> None:
    """Write a uint8 image (1 or 3, H, W)."""
    Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()).save(path, format="jpeg", quality=_QUALITY)


def packed(image: Tensor) -> Tensor:
    """Return a uint8 image (1 or 3, H, W) as the bytes of a JPEG, for a checkpoint."""
    file = BytesIO()
    write_jpeg(image, file)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def unpacked(jpeg: Tensor) -> Image.Image:
    """Return the image of the bytes of a JPEG."""
    return Image.open(BytesIO(jpeg.numpy().tobytes()))


def with_boxes(image: Tensor, boxes: Tensor, labels: Tensor, texts: Sequence[str]) -> Tensor:
    """Return an image with boxes and their texts drawn on it, enlarged where it is small.

    Args:
        image: uint8 (1 or 3, H, W).
        boxes: (N, 4), xyxy in its pixels.
        labels: (N,), each has a colour of its own.
        texts: One a box.

    Returns:
        uint8 (3, H', W').
    """
    factor = max(1, -(-_SIDE // max(image.shape[1:])))
    image = image.expand(3, -1, -1)
    image = F.interpolate(image[None].float(), scale_factor=factor, mode="bicubic", antialias=True)[0]
    image = image.round_().clamp_(0, 255).byte()
    if not len(boxes):
        return image
    from matplotlib import font_manager

    size = max(image.shape[1:])
    return draw_bounding_boxes(
        image,
        boxes.cpu() * factor,
        list(texts),
        colors=[_colours()[label % len(_colours())] for label in labels.tolist()],
        width=max(2, size // 400),
        font=font_manager.findfont("DejaVu Sans"),
        font_size=max(14, size // 40),
        label_colors="white",
        fill_labels=True,
    )


@cache
def _colours() -> list[tuple[int, ...]]:
    from matplotlib import colormaps

    colours = (colour for name in _COLOURS for colour in colormaps[name].colors)
    return [tuple(round(255 * part) for part in colour) for colour in colours]
