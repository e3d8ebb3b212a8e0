"""YOLO: what it is told to find, what its numbers stand for, and that it learns."""

import pytest
import torch

from cnnbench.errors import UserError
from cnnbench.models.detection import cluster_anchors, create_detector
from cnnbench.models.detection.yolo_cells import alike, decode, match

ANCHORS = [(8, 8), (16, 16), (32, 32)]
NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def yolo(**kwargs):
    torch.manual_seed(0)
    return create_detector("yolo", backbone="resnet18", num_classes=3, fpn_channels=16, anchors=ANCHORS, **kwargs)


def targets(*boxes):
    return {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.arange(len(boxes)) % 3}


def raw_of(box, cell, anchor, stride):
    """The numbers that stand for a box, by the inverse of the formulas of Scaled-YOLOv4."""
    x1, y1, x2, y2 = box
    centre = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2]) / stride - torch.tensor(cell, dtype=torch.float32)
    size = torch.tensor([x2 - x1, y2 - y1]) / torch.tensor(anchor, dtype=torch.float32)
    return torch.cat((((centre + 0.5) / 2).logit(), (size.sqrt() / 2).logit()))


def test_an_object_is_decoded_where_its_numbers_say():
    box = (20.0, 9.0, 44.0, 33.0)
    raw = raw_of(box, (4, 2), (32, 32), 8)
    decoded = decode(raw[None], torch.tensor([[4, 2]]), torch.tensor([8.0, 8.0]), torch.tensor([[32, 32]]))
    torch.testing.assert_close(decoded[0], torch.tensor(box))


def test_losses_vanish_where_the_head_says_the_truth_and_the_truth_is_found(monkeypatch):
    network = yolo(score_thresh=0.5)
    x, truth = torch.zeros(2, 3, 64, 96), [targets((20.0, 9.0, 44.0, 33.0), (60.0, 30.0, 68.0, 38.0)), NOTHING]
    raw = [torch.full((2, 64 // s, 96 // s, 1, 8), -20.0) for s in (8, 16, 32)]
    monkeypatch.setattr(network.head, "forward", lambda features: raw)
    for level, (stride, side) in enumerate(zip((8, 16, 32), (8, 16, 32), strict=True)):
        boxes, owners = truth[0]["boxes"], torch.zeros(2, dtype=torch.int64)
        found = match(raw[level], (64, 96), boxes, owners, alike(boxes, network.anchors, ratio=4.0)[:, level])
        for (column, row), owner in zip(found.cells.tolist(), found.object.tolist(), strict=True):
            numbers = raw[level][0, row, column, 0]
            numbers[:4] = raw_of(truth[0]["boxes"][owner].tolist(), (column, row), (side, side), stride)
            numbers[4], numbers[5 + owner] = 20.0, 20.0
    losses = network(x, truth)
    assert all(loss < 1e-3 for loss in losses.values()), losses
    first, second = network.eval()(x)
    assert first["labels"].tolist() == [0, 1] or first["labels"].tolist() == [1, 0]
    order = first["labels"].argsort()
    torch.testing.assert_close(first["boxes"][order], truth[0]["boxes"], atol=1e-3, rtol=0)
    assert len(second["boxes"]) == 0


def test_an_object_like_no_anchor_is_still_given_to_the_nearest():
    anchors = torch.tensor(ANCHORS, dtype=torch.float32).view(3, 1, 2)
    like = alike(torch.tensor([[0.0, 0, 1, 1], [0, 0, 900, 900]]), anchors, ratio=4.0)
    assert like.flatten(1).int().tolist() == [[1, 0, 0], [0, 0, 1]]


def test_descent_of_the_losses_leads_to_the_objects(monkeypatch):
    """Of the numbers themselves, in place of a network that puts them out."""
    network = yolo(score_thresh=0.3, loss_weights=(1.0, 10.0, 1.0))
    raw = [torch.zeros(2, 64 // stride, 64 // stride, 1, 8, requires_grad=True) for stride in (8, 16, 32)]
    monkeypatch.setattr(network.head, "forward", lambda features: raw)
    truth = [targets((4.0, 4, 20, 20), (30, 30, 60, 62)), targets((40.0, 8, 52, 22))]
    optimizer = torch.optim.Adam(raw, 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        sum(network.losses(raw, truth, (64, 64), [(64, 64)] * 2).values()).backward()
        optimizer.step()
    for found, wanted in zip(network.detect(raw, (64, 64), [(64, 64)] * 2), truth, strict=True):
        order = found["labels"].argsort()
        assert found["labels"][order].tolist() == wanted["labels"].tolist()
        assert (found["boxes"][order] - wanted["boxes"]).abs().max() < 1


def test_anchors_are_those_of_the_data():
    generator = torch.Generator().manual_seed(0)
    true = torch.tensor([[10.0, 10], [20, 60], [80, 40]])
    sizes = (true[:, None] * (1 + 0.1 * torch.randn(3, 200, 2, generator=generator))).flatten(0, 1)
    anchors = cluster_anchors(sizes, 3)
    torch.testing.assert_close(anchors, true, rtol=0.03, atol=0)
    torch.testing.assert_close(cluster_anchors(sizes[torch.randperm(600, generator=generator)], 3, seed=5), anchors)


def test_of_anchors_that_are_clustered_their_number_is_enough():
    torch.manual_seed(0)
    network = create_detector("yolo", backbone="resnet18", num_classes=3, fpn_channels=16, anchors=6)
    assert network.wants_sizes
    network.cluster(torch.rand(300, 2) * 60 + 4)
    assert not network.wants_sizes
    assert network.anchors.shape == (3, 2, 2)
    assert network.anchors.prod(dim=-1).flatten().diff().min() > 0
    again = create_detector("yolo", backbone="resnet18", num_classes=3, fpn_channels=16, anchors=6)
    again.load_state_dict(network.state_dict())
    assert not again.wants_sizes


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        (4, "4 anchors cannot be shared equally by 3"),
        (0, "0 anchors"),
        ([(8, 8)], "1 anchors cannot be shared equally by 3"),
        ([(8, 8, 8)] * 3, "pairs"),
        ([(8, 0)] * 3, "pairs"),
        ([(8, 8), 3, 4], "pairs"),
    ],
)
def test_wrong_anchors_are_named(anchors, message):
    with pytest.raises(UserError, match=message):
        create_detector("yolo", backbone="resnet18", num_classes=3, anchors=anchors)


def test_anchors_that_are_given_stay_where_weights_have_others_and_both_are_named(tmp_path, caplog):
    torch.save(yolo().state_dict(), tmp_path / "yolo.pth")
    options = {"backbone": "resnet18", "num_classes": 3, "fpn_channels": 16, "weights": tmp_path / "yolo.pth"}
    given = [[9, 9], [20, 20], [40, 40]]
    assert create_detector("yolo", anchors=ANCHORS, **options).anchors.tolist() == [[[8, 8]], [[16, 16]], [[32, 32]]]
    assert create_detector("yolo", anchors=3, **options).anchors.tolist() == [[[8, 8]], [[16, 16]], [[32, 32]]]
    assert not caplog.text
    assert create_detector("yolo", anchors=given, **options).anchors.flatten(0, 1).tolist() == given
    assert "anchors [[8.0, 8.0], [16.0, 16.0], [32.0, 32.0]] give way to those asked for, [[9.0, 9.0]" in caplog.text


def test_anchors_cannot_be_clustered_from_too_little():
    with pytest.raises(UserError, match="3 anchors cannot be clustered from boxes of 2 different sizes"):
        cluster_anchors(torch.tensor([[1.0, 2], [1, 2], [3, 4]]), 3)
    with pytest.raises(UserError, match="above 0"):
        cluster_anchors(torch.tensor([[1.0, 0], [1, 2], [3, 4]]), 3)
