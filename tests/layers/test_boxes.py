"""Arithmetic of boxes against torchvision's, which knows nothing of ours."""

import pytest
import torch
from torchvision import ops

from cnnbench.layers import boxes as ours

REFERENCE = {
    "iou": lambda a, b: ops.box_iou(a, b),
    "giou": lambda a, b: ops.generalized_box_iou(a, b),
    "diou": lambda a, b: ops.distance_box_iou(a, b),
    "ciou": lambda a, b: ops.complete_box_iou(a, b),
}


def some(count, seed=0):
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 90
    return torch.cat((corners.amin(dim=1), corners.amax(dim=1) + 1), dim=1)


@pytest.mark.parametrize("kind", ours.IOU_KINDS)
def test_overlaps_are_torchvisions(kind):
    a, b = some(20), some(30, seed=1)
    torch.testing.assert_close(ours.pairwise_iou(a, b, kind), REFERENCE[kind](a, b), rtol=0, atol=1e-7)  # its own eps
    torch.testing.assert_close(ours.box_iou(a, b[:20], kind), ours.pairwise_iou(a, b, kind).diagonal(), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ours.IOU_KINDS)
def test_overlaps_of_boxes_without_area_and_their_gradients_are_finite(kind):
    a = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 9], [0, 0, 2, 2]], requires_grad=True)
    overlaps = ours.pairwise_iou(a, torch.tensor([[5.0, 5, 5, 5], [0, 0, 2, 2], [90, 90, 99, 99]]), kind)
    overlaps.sum().backward()
    assert torch.isfinite(overlaps).all() and torch.isfinite(a.grad).all()
    assert overlaps[0, 0] == 0 and overlaps[2, 1] == 1


@pytest.mark.parametrize("source", ours.BOX_FORMATS)
@pytest.mark.parametrize("target", ours.BOX_FORMATS)
def test_formats_are_torchvisions(source, target):
    given = ops.box_convert(some(10), "xyxy", source)
    torch.testing.assert_close(ours.convert_boxes(given, source, target), ops.box_convert(given, source, target))


def test_an_unknown_format_and_an_unknown_overlap_are_named():
    with pytest.raises(ValueError, match="xyxy, xywh, cxcywh, not 'yxyx'"):
        ours.convert_boxes(some(1), "yxyx", "xyxy")
    with pytest.raises(ValueError, match="not 'jaccard'"):
        ours.box_iou(some(1), some(1), "jaccard")


def test_decoding_inverts_encoding_and_stays_finite():
    boxes, anchors, weights = some(50), some(50, seed=1), (10.0, 10.0, 5.0, 5.0)
    offsets = ours.encode_boxes(boxes, anchors, weights)
    torch.testing.assert_close(ours.decode_boxes(offsets, anchors, weights), boxes)
    assert torch.isfinite(ours.decode_boxes(torch.full((50, 4), 1e4), anchors.float())).all()


def test_clipping_and_areas_are_torchvisions():
    boxes = some(50) * 2 - 40
    torch.testing.assert_close(ours.clip_boxes(boxes, (60, 80)), ops.clip_boxes_to_image(boxes, (60, 80)))
    torch.testing.assert_close(ours.box_area(boxes), ops.box_area(boxes))
    large = ours.are_large(boxes, 30.0).nonzero().flatten()
    assert 0 < len(large) < len(boxes) and torch.equal(large, ops.remove_small_boxes(boxes, 30.0))
