"""U-Net over the feature maps of any classifier, convolutional or a vision transformer.

The way up of Ronneberger, Fischer and Brox 2015, https://arxiv.org/abs/1505.04597, with maps enlarged by repetition and
BatchNorm. The blocks of a vision transformer have maps of one resolution: those of four depths are enlarged to four,
the earlier the more (Hatamizadeh and others 2021, "UNETR", https://arxiv.org/abs/2103.10504, figure 2).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import to_2tuple
from torch import Tensor, nn

from cnnbench.errors import UserError
from cnnbench.layers import ConvNormAct
from cnnbench.models.factory import create_model, pretrained_cfg
from cnnbench.models.segmentation.registry import SegmenterInfo, register_segmenter
from cnnbench.models.segmentation.segmenter import Segmenter
from cnnbench.models.segmentation.unet import PAPER
from cnnbench.models.stages import feature_info_of

DECODER_CHANNELS = (256, 128, 64, 32, 16)
_ANY_SIZE = {"dynamic_img_size", "strict_img_size"}  # arguments of timm's transformers, with which they take all sizes
_DEPTHS = 4  # of a vision transformer, that are looked at


class UpBlock(nn.Module):
    """Enlarges a map twice, sets another beside it, and mixes both by two convolutions.

    Args:
        in_channels: Of the coarser map.
        skip_channels: Of the finer one; 0: there is none.
        out_channels: Channels that go out.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels + skip_channels, out_channels, 3, padding=1)
        self.conv2 = ConvNormAct(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, 2H, 2W), or to the size of `skip`."""
        if skip is None:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        else:
            x = torch.cat((F.interpolate(x, size=skip.shape[-2:], mode="nearest"), skip), dim=1)
        return self.conv2(self.conv1(x))


class TokenMaps(nn.Module):
    """Brings maps of one resolution to several, each twice as fine as the next.

    Args:
        dim: Channels of each map.
        count: How many there are; the last stays as it is.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.channels = [max(1, dim >> times) for times in range(count - 1, -1, -1)]
        self.enlarge = nn.ModuleList(
            nn.Sequential(*(_doubled(*pair) for pair in pairwise(max(1, dim >> step) for step in range(times + 1))))
            for times in range(count - 1, -1, -1)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the maps (B, dim, H, W) as (B, dim / 2^i, 2^i H, 2^i W), the finest first."""
        return [enlarge(x) for enlarge, x in zip(self.enlarge, maps, strict=True)]


def _check_channels(channels: Sequence[int], doublings: int, stride: int) -> None:
    """Refuse channels of the way up that are none, or too few."""
    for number in channels:
        if not isinstance(number, int) or number < 1:
            raise UserError(f"decoder_channels has {number!r}: each must be a whole number of at least 1")
    if len(channels) < doublings:
        raise UserError(
            f"decoder_channels is {list(channels)}: it must have {doublings}, since a map of stride {stride} is "
            f"doubled as often; without it they are {', '.join(map(str, DECODER_CHANNELS))}"
        )


class EncoderUNet(Segmenter):
    """A classifier's feature maps, and the way up from them.

    Args:
        encoder: Built with `features_only=True`.
        num_classes: Classes, the background among them.
        in_chans: Channels of the images.
        decoder_channels: Channels of the way up, coarsest first; of more than there are doublings the last.
        deep_supervision: How many coarser maps have logits of their own while training, see `Segmenter`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_classes: int,
        in_chans: int,
        decoder_channels: Sequence[int] = DECODER_CHANNELS,
        deep_supervision: int = 0,
    ) -> None:
        strides, channels = encoder.feature_info.reduction(), encoder.feature_info.channels()
        super().__init__(num_classes, in_chans, stride=max(strides))
        self.encoder = encoder
        doublings = math.ceil(math.log2(self.stride))
        _check_channels(decoder_channels, doublings, self.stride)
        tokens = len(strides) > 1 and len(set(strides)) == 1
        self.token_maps = TokenMaps(channels[-1], len(strides)) if tokens else None
        if tokens:
            channels = self.token_maps.channels
            strides = [self.stride / 2**times for times in range(len(strides) - 1, -1, -1)]
        level = {round(math.log2(stride)): place for place, stride in enumerate(strides)}  # of each map, 0 the image's
        self._skips = [level.get(step) for step in range(doublings - 1, -1, -1)]
        widths = (channels[-1], *decoder_channels[len(decoder_channels) - doublings :])
        self.blocks = nn.ModuleList(
            UpBlock(coarse, 0 if skip is None else channels[skip], fine)
            for (coarse, fine), skip in zip(pairwise(widths), self._skips, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], num_classes, 3, padding=1)
        self.supervise(widths[1:], deep_supervision)
        for module in [*self.blocks.modules(), *(self.token_maps or nn.ModuleList()).modules()]:
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def get_classifier(self) -> list[nn.Module]:
        """Return what is no part of the classifier that the segmenter stands on: the way up."""
        own = (self.token_maps, self.blocks, self.head, self.aux_heads)
        return [module for module in own if module is not None]

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """What the encoder's maps are, as timm tells it, and the modules here that they come from."""
        return feature_info_of(self.encoder, "encoder")

    def way_up(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the way up of images (B, in_chans, H, W) whose sides `stride` divides, coarsest first."""
        maps = self.encoder(images)
        if getattr(self.encoder, "output_fmt", "NCHW") == "NHWC":
            maps = [x.permute(0, 3, 1, 2).contiguous() for x in maps]
        if self.token_maps is not None:
            maps = self.token_maps(maps)
        enlarged = [maps[-1]]
        for block, skip in zip(self.blocks, self._skips, strict=True):
            enlarged.append(block(enlarged[-1], None if skip is None else maps[skip]))
        return enlarged[1:]

    def logits(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return what `Segmenter.logits` does."""
        logits = super().logits(images)
        finest, *coarser = logits if isinstance(logits, tuple) else (logits,)
        if finest.shape[-2:] != images.shape[-2:]:  # strides that are no powers of two
            finest = F.interpolate(finest, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return (finest, *coarser) if coarser else finest


def _doubled(in_channels: int, out_channels: int) -> nn.Sequential:
    enlarge = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2, bias=False)
    return nn.Sequential(enlarge, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def create_encoder_unet(
    num_classes: int,
    in_chans: int = 3,
    *,
    backbone: str,
    backbone_source: str = "cnnbench",
    pretrained_backbone: bool = False,
    backbone_args: Mapping[str, Any] | None = None,
    out_indices: Sequence[int] | None = None,
    decoder_channels: Sequence[int] = DECODER_CHANNELS,
    deep_supervision: int = 0,
) -> EncoderUNet:
    """Build a U-Net over a classifier.

    Args:
        num_classes: Classes, the background among them.
        in_chans: Channels of the images.
        backbone: The classifier's name, see `cnnbench.create_model`.
        backbone_source: Who wrote it.
        pretrained_backbone: Load its published weights.
        backbone_args: Its further arguments, such as `{img_size: 96}` of a vision transformer.
        out_indices: Which of its feature maps to take; None: the last of each stride, or four depths of a transformer.
        decoder_channels: Channels of the way up, coarsest first.
        deep_supervision: How many coarser maps have logits of their own while training, see `Segmenter`.

    Raises:
        UserError: There is no such network or map, or the arguments do not fit it.
    """
    options = {**(backbone_args or {}), "source": backbone_source, "in_chans": in_chans, "features_only": True}
    if out_indices is None:
        with torch.device("meta"):
            out_indices = _chosen_maps(
                [info["reduction"] for info in create_model(backbone, **options).feature_info.info]
            )
    encoder = create_model(backbone, pretrained=pretrained_backbone, out_indices=tuple(out_indices), **options)
    network = EncoderUNet(encoder, num_classes, in_chans, decoder_channels, deep_supervision)
    published = pretrained_cfg(backbone, backbone_source)
    if published["fixed_input_size"] and not _ANY_SIZE & options.keys():
        network.fixed_size = to_2tuple(options.get("img_size", published["input_size"][1:]))
    return network


def _chosen_maps(strides: Sequence[int]) -> list[int]:
    """Return the last map of each stride; where all are of one, four of them evenly spaced."""
    if len(set(strides)) == 1:
        count = min(_DEPTHS, len(strides))
        return [len(strides) * (place + 1) // count - 1 for place in range(count)]
    return sorted({stride: place for place, stride in enumerate(strides)}.values())


register_segmenter(SegmenterInfo("unet_encoder", create_encoder_unet, PAPER, needs_backbone=True))
