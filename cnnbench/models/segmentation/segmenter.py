"""What all segmenters share: images of any size come in, and the channels must fit."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.errors import UserError


class Segmenter(nn.Module):
    """Gives each pixel of an image a logit a class.

    A subclass ends in a layer `head`, and writes `way_up` for images whose sides are multiples of `stride`.

    With `deep_supervision`, coarser maps of the way up have logits of their own while training, so that a loss reaches
    what is deep by a short way (Lee and others 2015, "Deeply-Supervised Nets", https://arxiv.org/abs/1409.5185; for
    U-Nets Isensee and others 2021, "nnU-Net", https://arxiv.org/abs/1904.08128).

    Args:
        num_classes: Classes, the background among them.
        in_chans: Channels of the images.
        stride: Pixels of the image to one of the coarsest feature map.

    Attributes:
        aux_heads: What gives coarser maps their logits, the finest first; empty without deep supervision.
        border: Pixels of each edge of the image for which there are no logits.
        fixed_size: Height and width of the only images that `logits` takes; None: it takes others too.
    """

    border = 0
    fixed_size: tuple[int, int] | None = None

    def __init__(self, num_classes: int, in_chans: int, stride: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.stride = stride
        self.aux_heads = nn.ModuleList()

    def way_up(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the way up of images (B, in_chans, H, W) whose sides `stride` divides, coarsest first."""
        raise NotImplementedError

    def get_classifier(self) -> list[nn.Module]:
        """Return what makes logits: the head, and those of coarser maps."""
        return [self.head, *self.aux_heads]

    def supervise(self, channels: Sequence[int], count: int) -> None:
        """Create the heads of coarser maps.

        Args:
            channels: Of the maps of the way up, coarsest first.
            count: How many of the coarser maps get logits, beginning with the finest.

        Raises:
            UserError: There are not so many.
        """
        if not 0 <= count < len(channels):
            raise UserError(f"deep_supervision is {count}: the way up has {len(channels) - 1} maps besides the last")
        finest_first = channels[-2::-1]
        self.aux_heads.extend(nn.Conv2d(width, self.num_classes, 1) for width in finest_first[:count])

    def logits(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (B, num_classes, H, W) of images (B, in_chans, H, W) whose sides `stride` divides.

        While training with deep supervision it is a tuple: these, and the logits of coarser maps, the finest first.
        """
        maps = self.way_up(images)
        logits = self.head(maps[-1])
        if not self.training or not self.aux_heads:
            return logits
        return logits, *(head(x) for head, x in zip(self.aux_heads, maps[-2::-1], strict=False))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (B, num_classes, H, W) of images (B, in_chans, H, W); a tuple where `logits` returns one.

        Sides that `stride` does not divide, or that are shorter than `fixed_size`, are continued by their last pixels,
        and the logits of those are cut off.

        Raises:
            UserError: The images have other channels, or are larger than `fixed_size`.
        """
        self.check_channels(images)
        height, width = images.shape[-2:]
        images = to_multiple(images, self.stride) if self.fixed_size is None else self._to_fixed_size(images)
        logits = self.logits(images)
        if isinstance(logits, tuple):
            return logits[0][..., :height, :width], *logits[1:]
        return logits[..., :height, :width]

    def continued_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that images are continued to, which coarser maps stand for."""
        return self.fixed_size or (height + -height % self.stride, width + -width % self.stride)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the smallest height and width of an image with logits for so many pixels in its middle."""
        return height, width

    def _to_fixed_size(self, images: Tensor) -> Tensor:
        below, right = (own - given for own, given in zip(self.fixed_size, images.shape[-2:], strict=True))
        if below < 0 or right < 0:
            given, own = ("x".join(map(str, size)) for size in (images.shape[-2:], self.fixed_size))
            what_now = f"give img_size among backbone_args, or evaluate by tiles: tile {min(self.fixed_size)}"
            raise UserError(f"images of {given} pixels are larger than the backbone takes, {own}: {what_now}")
        return F.pad(images, (0, right, 0, below), mode="replicate") if below or right else images

    def check_channels(self, images: Tensor) -> None:
        """Refuse images of another number of channels."""
        if images.shape[1] != self.in_chans:
            raise UserError(f"images have {images.shape[1]} channels, and the segmenter takes {self.in_chans}")


def to_multiple(images: Tensor, stride: int) -> Tensor:
    """Return images (B, C, H, W) continued right and below by their last pixels, to sides that `stride` divides."""
    height, width = images.shape[-2:]
    below, right = -height % stride, -width % stride
    return F.pad(images, (0, right, 0, below), mode="replicate") if below or right else images


def mirrored(images: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Return images (B, C, H, W) continued by their mirror images, as often as it takes: (B, C, H', W')."""
    height, width = images.shape[-2:]
    rows = _reflected(height, top, bottom, images.device)
    columns = _reflected(width, left, right, images.device)
    return images.index_select(-2, rows).index_select(-1, columns)


def _reflected(length: int, before: int, after: int, device: torch.device) -> Tensor:
    """Return which of `length` places stands at each of those from -before to length + after: ... 2 1 0 1 2 ..."""
    period = max(1, 2 * (length - 1))
    place = torch.arange(-before, length + after, device=device) % period
    return torch.minimum(place, period - place) if length > 1 else torch.zeros_like(place)
