"""U-Net: Olaf Ronneberger, Philipp Fischer, Thomas Brox, 2015, https://arxiv.org/abs/1505.04597.

The one idea: a network that halves its maps to see what is there, doubles them again to say where, and at each doubling
is handed the map of that resolution from the way down.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnnbench.errors import UserError
from cnnbench.models.registry import Paper
from cnnbench.models.segmentation.registry import SegmenterInfo, register_segmenter
from cnnbench.models.segmentation.segmenter import Segmenter

WIDTHS = (64, 128, 256, 512, 1024)


class DoubleConv(nn.Sequential):
    """Twice a 3x3 convolution and a ReLU, with BatchNorm between them where asked for.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        padding: 1 keeps the size, 0 takes two pixels from each edge.
        norm: Whether there is BatchNorm.
    """

    def __init__(self, in_channels: int, out_channels: int, padding: int, norm: bool) -> None:
        super().__init__()
        for channels in (in_channels, out_channels):
            self.append(nn.Conv2d(channels, out_channels, 3, padding=padding, bias=not norm))
            if norm:
                self.append(nn.BatchNorm2d(out_channels))
            self.append(nn.ReLU(inplace=True))


class UNet(Segmenter):
    """The paper's figure 1, and what tutorials have made of it.

    Args:
        num_classes: Classes, the background among them.
        in_chans: Channels of the images.
        widths: Channels of each resolution, the image's first.
        padded: Whether convolutions keep the size: logits for all pixels of an image of any size. The paper's do not:
            an image of 572 pixels a side has logits for the 388 in its middle (`segmented` mirrors the image to have
            them for all).
        norm: Whether BatchNorm follows each 3x3 convolution; the paper, of the same year, has none.
        drop_rate: Dropout of the two coarsest maps, "at the end of the contracting path" (section 3.1).
        deep_supervision: How many coarser maps have logits of their own while training, see `Segmenter`.

    Attributes:
        feature_info: The maps of the way down, as timm tells them.

    Raises:
        UserError: There are not so many, or the convolutions are not padded.
    """

    def __init__(
        self,
        num_classes: int,
        in_chans: int = 3,
        widths: Sequence[int] = WIDTHS,
        padded: bool = True,
        norm: bool = True,
        drop_rate: float = 0.0,
        deep_supervision: int = 0,
    ) -> None:
        if deep_supervision and not padded:
            raise UserError(f"deep_supervision is {deep_supervision}: coarser maps are those of the image if padded")
        if len(widths) < 2:
            raise UserError(f"widths is {list(widths)}: it must have one for each resolution, two at least")
        super().__init__(num_classes, in_chans, stride=2 ** (len(widths) - 1))
        self.padded = padded
        self.border = 0 if padded else 6 * self.stride - 4
        padding = int(padded)
        before = (in_chans, *widths)
        self.down = nn.ModuleList(
            DoubleConv(*pair, padding, norm) for pair in zip(before, widths, strict=False)
        )  # finest first
        self.feature_info = [
            {"num_chs": width, "reduction": 2**level, "module": f"down.{level}"} for level, width in enumerate(widths)
        ]
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(drop_rate)
        coarser = list(zip(widths[:0:-1], widths[-2::-1], strict=True))  # coarsest first
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(*pair, kernel_size=2, stride=2) for pair in coarser)
        self.up = nn.ModuleList(DoubleConv(2 * width, width, padding, norm) for _, width in coarser)
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.supervise(widths[-2::-1], deep_supervision)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # section 3: a deviation of sqrt(2 / N)
            elif isinstance(module, nn.ConvTranspose2d):  # a pixel that goes out has one that comes in, in each channel
                nn.init.normal_(module.weight, std=math.sqrt(2 / module.in_channels))

    def way_up(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the way up, coarsest first; the last is (B, widths[0], H - 2 border, W - 2 border)."""
        x, skips = images, []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            if level >= len(self.down) - 2:
                x = self.drop(x)
            skips.append(x)
        maps = []
        for enlarge, block, skip in zip(self.enlarge, self.up, skips[-2::-1], strict=True):
            x = enlarge(x)
            x = block(torch.cat((_middle(skip, x), x), dim=1))
            maps.append(x)
        return maps

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits of images (B, in_chans, H, W), of all pixels or, not padded, of those within the border.

        While training with deep supervision it is a tuple: these, and the logits of coarser maps, the finest first.

        Raises:
            UserError: The images have other channels, or, not padded, a size that cannot be halved so often.
        """
        if self.padded:
            return super().forward(images)
        self.check_channels(images)
        height, width = images.shape[-2:]
        taken = self.input_size(height - 2 * self.border, width - 2 * self.border)
        if taken != (height, width):
            raise UserError(
                f"images of {height}x{width} pixels cannot be halved {len(self.enlarge)} times between valid "
                f"convolutions; {taken[0]}x{taken[1]} can"
            )
        return self.logits(images)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the smallest height and width of an image with logits for so many pixels in its middle."""
        return (height, width) if self.padded else (self._input_side(height), self._input_side(width))

    def _input_side(self, wanted: int) -> int:
        """Return the image's side that follows from the coarsest map's: two convolutions take 4 pixels of each map."""
        taken = 4 * (self.stride - 1)
        coarsest = max(5, -(-(wanted + taken) // self.stride))  # of fewer than 5 nothing would be left
        return self.stride * (coarsest + 4) + taken


def _middle(skip: Tensor, x: Tensor) -> Tensor:
    """Return the part of a map (B, C, H, W) in its middle that is as large as another."""
    top, left = ((of - own) // 2 for of, own in zip(skip.shape[-2:], x.shape[-2:], strict=True))
    return skip[..., top : top + x.shape[-2], left : left + x.shape[-1]]


PAPER = Paper(
    title="U-Net: Convolutional Networks for Biomedical Image Segmentation",
    authors="Olaf Ronneberger, Philipp Fischer, Thomas Brox",
    year=2015,
    url="https://arxiv.org/abs/1505.04597",
)

register_segmenter(
    SegmenterInfo("unet_paper", UNet, PAPER, {"padded": False, "norm": False, "drop_rate": 0.5}),
    SegmenterInfo("unet", UNet, PAPER),
)
