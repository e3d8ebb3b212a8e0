"""Which object an anchor or a proposal is to find, and the balanced sample that is learned from."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cnnbench.layers.boxes import pairwise_iou

BACKGROUND = -1
BETWEEN = -2
MOST_PAIRS = 2**24  # of a box and a candidate that are held at a time


def match(boxes: Tensor, candidates: Tensor, low: float, high: float, every_box: bool = False) -> Tensor:
    """Return for each candidate the index of the box that it is to find (Girshick 2015, section 2.3).

    Args:
        boxes: (M, 4), of the objects.
        candidates: (N, 4), anchors or proposals.
        low: A candidate whose best IoU is below it is background.
        high: One whose best IoU is this at least finds that box; one between the two is neither.
        every_box: Let the candidates of highest IoU with a box find what they overlap best, however little (Ren et al.
            2015, section 3.1.2).

    Returns:
        int64 (N,): an index, `BACKGROUND` or `BETWEEN`.
    """
    best = candidates.new_zeros(len(candidates))
    matches = torch.zeros(len(candidates), dtype=torch.int64, device=candidates.device)
    nearest = torch.zeros(len(candidates), dtype=torch.bool, device=candidates.device)
    step = max(1, MOST_PAIRS // max(len(candidates), 1))
    for start in range(0, len(boxes) if len(candidates) else 0, step):
        overlaps = pairwise_iou(boxes[start : start + step], candidates)  # (up to `step`, N)
        highest, which = overlaps.max(dim=0)
        matches = torch.where(highest > best, which + start, matches)
        best = torch.max(best, highest)
        if every_box:
            of_box = overlaps.amax(dim=1, keepdim=True)
            nearest |= ((overlaps == of_box) & (of_box > 0)).any(dim=0)
    found = torch.where(best < low, BACKGROUND, torch.where(best < high, BETWEEN, matches))
    return torch.where(nearest, matches, found)


def sample(labels: Tensor, count: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Return indices of positive and of negative candidates, drawn at random, each in rising order.

    Args:
        labels: (N,): above 0 positive, 0 negative, below 0 neither.
        count: How many to draw at most.
        positive_fraction: Part of `count` that may be positive; negatives fill it up.
    """
    positive, negative = torch.where(labels > 0)[0], torch.where(labels == 0)[0]
    positives = min(len(positive), int(count * positive_fraction))
    negatives = min(len(negative), count - positives)
    return _drawn(positive, positives), _drawn(negative, negatives)


def in_batch(indices: Sequence[Tensor], length: int) -> Tensor:
    """Return indices into each image's `length` candidates as indices into those of the whole batch."""
    return torch.cat([index + image * length for image, index in enumerate(indices)])


def _drawn(indices: Tensor, count: int) -> Tensor:
    return indices[torch.randperm(len(indices), device=indices.device)[:count]].sort().values
