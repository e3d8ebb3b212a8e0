"""Logits of whole images, also of those that a network or its device takes only in parts."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cnnbench.errors import UserError
from cnnbench.models.segmentation.segmenter import Segmenter, mirrored, to_multiple

_FADING = 8  # of an overlap this part is where a tile fades into the next; what is left, at its edges, is thrown away


def segmented(network: Segmenter, images: Tensor, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Return logits for all pixels of images.

    Args:
        network: One that has none for the border gets the images mirrored there (the paper's section 2).
        images: (B, C, H, W).
        forward: What runs the network, where that is not to be called itself.

    Returns:
        (B, num_classes, H, W).
    """
    forward = forward or network
    if not network.border:
        return forward(images)
    height, width = images.shape[-2:]
    added = [taken - own for taken, own in zip(network.input_size(height, width), (height, width), strict=True)]
    before = network.border
    logits = forward(mirrored(images, before, added[0] - before, before, added[1] - before))
    return logits[..., :height, :width]


def tiled(network: Segmenter, images: Tensor, tile: int, overlap: int | None = None, **kwargs: Callable) -> Tensor:
    """Return the logits (B, num_classes, H, W) of `tiled_bands`, put together."""
    return torch.cat(list(tiled_bands(network, images, tile, overlap, **kwargs)), dim=-2)


def tiled_bands(
    network: Segmenter,
    images: Tensor,
    tile: int,
    overlap: int | None = None,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Tensor]:
    """Yield the logits of images of any size, from top to bottom, of which no more is held than a row of tiles.

    Neighbouring tiles overlap. The outer 7/16 of an overlap are thrown away on either side, since a tile does not see
    what stands behind its edge; over the eighth in the middle one fades into the other. Where 7/16 of the overlap reach
    as far as the network sees, the logits are those of the whole image.

    Args:
        network: In evaluation mode, and on the device where the tiles are to be computed.
        images: (B, C, H, W), on any device.
        tile: Side of a tile in pixels, a multiple of the network's stride.
        overlap: Of neighbouring tiles in pixels; None: half a tile. Rounded down to a multiple of the stride.
        forward: What runs the network, where that is not to be called itself.

    Yields:
        (B, num_classes, h, W) on the images' device.

    Raises:
        UserError: Tile or overlap do not fit.
    """
    overlap = overlap_of_tiles(network, tile, overlap)
    height, width = images.shape[-2:]
    images = to_multiple(images, network.stride)
    device = next(network.parameters()).device
    rows, columns = (_axis(side, tile, overlap) for side in images.shape[-2:])
    done, band = 0, None  # rows that were yielded; sums of what follows them
    for place, (top, across_rows) in enumerate(rows):
        own = min(tile, images.shape[-2])
        here = _row_of_tiles(network, images[..., top : top + own, :].to(device), columns, tile, forward)
        here = (here * across_rows.to(here)[:, None]).to(images.device)  # (B, K, own, W)
        if band is not None:
            here[..., : band.shape[-2], :] += band
        end = rows[place + 1][0] if place + 1 < len(rows) else images.shape[-2]
        finished, band = here[..., : end - top, :], here[..., end - top :, :]
        yield finished[..., : max(0, height - done), :width]
        done = end


def overlap_of_tiles(network: Segmenter, tile: int, overlap: int | None) -> int:
    """Return by how many pixels neighbouring tiles overlap; arguments as of `tiled_bands`.

    Raises:
        UserError: Tile or overlap do not fit.
    """
    stride = network.stride
    if tile < stride or tile % stride:
        raise UserError(f"tile is {tile}: it must be a multiple of {stride}, the network's stride")
    wanted = tile // 2 if overlap is None else overlap
    if not 0 <= wanted <= tile // 2:
        raise UserError(f"overlap is {overlap}: it must be between 0 and half a tile, {tile // 2}")
    return wanted // stride * stride


def _row_of_tiles(
    network: Segmenter,
    strip: Tensor,
    columns: list[tuple[int, Tensor]],
    tile: int,
    forward: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """Return the logits of a strip (B, C, h, W), tile by tile: (B, K, h, W)."""
    total = None
    for left, weight in columns:
        logits = segmented(network, strip[..., left : left + tile], forward)
        if total is None:
            total = logits.new_zeros(*logits.shape[:-1], strip.shape[-1])
        total[..., left : left + tile] += logits * weight.to(logits)
    return total


def _axis(length: int, tile: int, overlap: int) -> list[tuple[int, Tensor]]:
    """Return where each tile begins along an axis, and the weights of its pixels, which sum to 1 everywhere."""
    last = max(0, length - tile)
    starts = [*range(0, last, tile - overlap), last]
    weights = []
    for place, start in enumerate(starts):
        own = torch.ones(min(tile, length), dtype=torch.float64)
        if place:
            own *= _fading_in(len(own), starts[place - 1] + tile - start)
        if place + 1 < len(starts):
            own *= 1 - _fading_in(len(own), start + tile - starts[place + 1], from_end=True)
        weights.append(own)
    return list(zip(starts, weights, strict=True))


def _fading_in(length: int, overlap: int, from_end: bool = False) -> Tensor:
    """Return what the later of two tiles counts for along one of them: 0, rising in the middle of the overlap, 1.

    Args:
        length: Of the tile.
        overlap: Of both.
        from_end: Whether the overlap is at the end of the tile, which is the earlier one then.
    """
    fading = max(1, overlap // _FADING)
    before = (overlap - fading) // 2
    ramp = (torch.arange(overlap, dtype=torch.float64) - before + 0.5) / fading
    weights = torch.full((length,), 0.0 if from_end else 1.0, dtype=torch.float64)
    place = slice(length - overlap, length) if from_end else slice(0, overlap)
    weights[place] = ramp.clamp(0, 1)
    return weights
