"""Anchors: the boxes from which detections are measured."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cnnbench.errors import UserError

ATTEMPTS = 10  # of k-means, of which the best counts
ITERATIONS = 100  # of each, at most
MOST_SIZES = 20_000  # that are looked at


class AnchorGenerator:
    """The same boxes around every position of a feature map (Ren et al. 2015, https://arxiv.org/abs/1506.01497, 3.1.1).

    Args:
        sizes: For each map the sides in pixels of its square anchors; the others have their areas.
        aspect_ratios: Heights over widths.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0)) -> None:
        counts = {len(of_map) for of_map in sizes}
        if len(counts) != 1 or 0 in counts or not aspect_ratios:
            raise UserError(f"each feature map needs as many anchor sizes, not {sizes!r}")
        if not all(number > 0 for of_map in (*sizes, aspect_ratios) for number in of_map):
            raise UserError(f"anchor sizes and aspect ratios are above 0, not {sizes!r} and {aspect_ratios!r}")
        self.cells = [_around_zero(of_map, aspect_ratios) for of_map in sizes]

    @property
    def count(self) -> int:
        """Anchors at each position."""
        return len(self.cells[0])

    def __call__(self, maps: Sequence[Tensor], canvas: tuple[int, int]) -> list[Tensor]:
        """Return for each map the anchors (H W count, 4), row by row, in the precision of the maps, float32 at least.

        Args:
            maps: (B, C, H, W) each.
            canvas: Height and width of the images.

        Raises:
            UserError: There are more or fewer maps than sizes were given for.
        """
        if len(maps) != len(self.cells):
            raise UserError(f"there are anchor sizes for {len(self.cells)} feature maps, and {len(maps)} feature maps")
        return [self._of_map(x, cell, canvas) for x, cell in zip(maps, self.cells, strict=True)]

    def _of_map(self, x: Tensor, cell: Tensor, canvas: tuple[int, int]) -> Tensor:
        (rows, columns), (height, width) = x.shape[-2:], canvas
        dtype = torch.promote_types(x.dtype, torch.float32)
        top = torch.arange(rows, dtype=dtype, device=x.device) * (height // rows)
        left = torch.arange(columns, dtype=dtype, device=x.device) * (width // columns)
        corners = torch.stack((left.expand(rows, columns), top[:, None].expand(rows, columns)), dim=-1)
        return (corners.repeat(1, 1, 2)[:, :, None] + cell.to(corners)).view(-1, 4)


def _around_zero(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """Return the anchors (count, 4) of one position, in whole pixels: all sizes of a ratio, then the next ratio's."""
    ratios = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()[:, None]
    sides = torch.tensor(sizes, dtype=torch.float32)
    width, height = (sides / ratios).flatten() / 2, (sides * ratios).flatten() / 2
    return torch.stack((-width, -height, width, height), dim=1).round()


def cluster_anchors(sizes: Tensor, count: int, seed: int = 0) -> Tensor:
    """Return anchors that resemble the boxes of a data set: k-means whose distance is 1 - IoU.

    Redmon, Farhadi, 2016, https://arxiv.org/abs/1612.08242, section 2, "Dimension Clusters".

    Args:
        sizes: (N, 2), width and height of boxes in pixels.
        count: How many anchors.
        seed: Of the boxes that k-means begins with.

    Returns:
        (count, 2), smallest area first.

    Raises:
        UserError: There are fewer sizes than anchors, or one is not above 0.
    """
    sizes = sizes.to(torch.float64)
    if not bool((torch.isfinite(sizes) & (sizes > 0)).all()):
        raise UserError("anchors are clustered from widths and heights above 0")
    distinct = sizes.unique(dim=0)
    if count < 1 or len(distinct) < count:
        raise UserError(f"{count} anchors cannot be clustered from boxes of {len(distinct)} different sizes")
    generator = torch.Generator().manual_seed(seed)
    sizes = sizes[torch.randperm(len(sizes), generator=generator)[:MOST_SIZES]]
    attempts = [_clustered(sizes, _spread(distinct, count, generator)) for _ in range(ATTEMPTS)]
    anchors = max(attempts, key=lambda anchors: size_iou(sizes, anchors).amax(dim=1).mean())
    return anchors[anchors.prod(dim=1).argsort()].to(torch.float32)


def size_iou(sizes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU (N, M) of boxes of sizes (N, 2) and (M, 2) that share their centre."""
    common = torch.min(sizes[:, None], others).prod(dim=-1)
    return common / (sizes.prod(dim=-1)[:, None] + others.prod(dim=-1) - common)


def as_anchor_levels(anchors: Sequence[Sequence[float]] | Tensor, levels: int) -> Tensor:
    """Return anchors as (levels, count of each, 2), the smallest at the finest level.

    Args:
        anchors: Width and height of each, in pixels.
        levels: Maps that share them in equal parts.

    Raises:
        UserError: They are no sizes, or cannot be shared in equal parts.
    """
    try:
        given = torch.as_tensor(anchors, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"anchors are pairs of a width and a height above 0, not {anchors!r}") from error
    if given.ndim != 2 or given.shape[1] != 2 or not bool((given > 0).all()):
        raise UserError(f"anchors are pairs of a width and a height above 0, not {anchors!r}")
    if len(given) == 0 or len(given) % levels:
        raise UserError(f"{len(given)} anchors cannot be shared equally by {levels} feature maps")
    return given[given.prod(dim=1).argsort()].view(levels, -1, 2)


def unknown_anchors(count: int, levels: int) -> Tensor:
    """Return the place of anchors that are not known yet, (levels, count of each, 2), all NaN.

    Raises:
        UserError: They cannot be shared in equal parts.
    """
    if count < 1 or count % levels:
        raise UserError(f"{count} anchors cannot be shared equally by {levels} feature maps")
    return torch.full((levels, count // levels, 2), torch.nan)


def _spread(sizes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` of the sizes that are unlike each other: k-means++ (Arthur, Vassilvitskii, 2007)."""
    chosen = sizes[torch.randint(len(sizes), (1,), generator=generator)]
    while len(chosen) < count:
        distance = 1 - size_iou(sizes, chosen).amax(dim=1)
        drawn = torch.multinomial(distance.clamp(min=0) ** 2, 1, generator=generator)
        chosen = torch.cat((chosen, sizes[drawn]))
    return chosen


def _clustered(sizes: Tensor, anchors: Tensor) -> Tensor:
    """Return the anchors after k-means: each the mean of the sizes that are nearest to it."""
    for _ in range(ITERATIONS):
        nearest = size_iou(sizes, anchors).argmax(dim=1)
        groups = [sizes[nearest == i] for i in range(len(anchors))]
        moved = torch.stack(
            [group.mean(dim=0) if len(group) else own for group, own in zip(groups, anchors, strict=True)]
        )
        if torch.equal(moved, anchors):
            break
        anchors = moved
    return anchors
