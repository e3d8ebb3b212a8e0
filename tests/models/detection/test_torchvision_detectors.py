"""Ours against torchvision's in float64 with random weights: losses, gradients, detections, and each part by itself."""

import copy

import pytest
import torch
from published_files import as_of_2020, write_published
from torchvision.models.detection import _utils, fasterrcnn_resnet50_fpn, retinanet_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator as TheirAnchors
from torchvision.models.detection.image_list import ImageList

from cnnbench.compare.prepare import randomise
from cnnbench.layers.boxes import decode_boxes, encode_boxes, pairwise_iou
from cnnbench.models.detection import anchors, create_detector, matching

SMALL = {
    "faster_rcnn": {"anchor_sizes": [[8], [16], [32], [48], [64]], "representation_size": 32, "canonical_size": 56},
    "retinanet": {"anchor_sizes": [[8, 12], [16, 24], [32, 40], [48, 56], [64, 80]], "score_thresh": 0.3},
}
COMMON = {"backbone": "resnet18", "num_classes": 3, "fpn_channels": 16}
SOURCES = ("cnnbench", "torchvision")
SIZES = torch.tensor([[96, 128], [70, 100]])


def pair(name, **kwargs):
    """Ours and torchvision's with the same random weights, float64."""
    arguments = {**COMMON, **SMALL[name], **kwargs}
    networks = [create_detector(name, source=source, **arguments).double() for source in SOURCES]
    return exchanged(*networks)


def exchanged(ours, theirs):
    state = theirs.state_dict()
    randomise(state, seed=0)
    ours.load_state_dict(state, strict=True)
    assert state.keys() == ours.state_dict().keys()
    return ours, theirs


IMAGES = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
_BOXES = torch.tensor([[4.0, 6, 40, 50], [30, 20, 90, 80], [60, 60, 75, 70]], dtype=torch.float64)
TARGETS = [
    {"boxes": _BOXES, "labels": torch.tensor([0, 2, 1])},
    {"boxes": _BOXES[1:], "labels": torch.tensor([1, 1])},
]


def trained(network, images, targets, sizes=SIZES):
    torch.manual_seed(0)
    losses = network.train()(images, targets, sizes)
    network.zero_grad()
    sum(losses.values()).backward()
    return losses, {name: parameter.grad for name, parameter in network.named_parameters()}


def assert_equal(mine, other, tolerance=1e-9):
    assert mine.keys() == other.keys()
    for key in mine:
        scale = max(other[key].abs().max().item(), 1e-6) if other[key].numel() else 1.0
        torch.testing.assert_close(
            mine[key], other[key], rtol=0, atol=tolerance * scale, msg=lambda m, key=key: f"{key}: {m}"
        )


def test_towers_with_group_norm_are_torchvisions():
    ours, theirs = pair("retinanet", group_norm=True, fpn_channels=32)
    mine, other = (trained(network, IMAGES, TARGETS) for network in (ours, theirs))
    assert "head.classification_head.conv.3.1.weight" in mine[1]
    assert_equal(mine[0], other[0])
    assert_equal(mine[1], other[1])


@pytest.mark.parametrize("name", SMALL)
def test_losses_gradients_and_detections_are_torchvisions(name):
    ours, theirs = pair(name)
    mine, other = (trained(network, IMAGES, TARGETS) for network in (ours, theirs))
    assert_equal(mine[0], other[0])
    assert_equal(mine[1], other[1])
    found = [network.eval()(IMAGES, sizes=SIZES) for network in (ours, theirs)]
    assert all(len(of_image["boxes"]) > 5 for of_image in found[0])
    for mine, other in zip(*found, strict=True):
        assert_equal(mine, other)
        assert mine["boxes"][:, 2].max() <= 128 and (mine["scores"].diff() <= 0).all()
    assert found[0][1]["boxes"][:, 2].max() <= 100 and found[0][1]["boxes"][:, 3].max() <= 70


@pytest.mark.parametrize("name", SMALL)
def test_a_narrow_image_on_a_letterbox_is_seen_as_torchvision_sees_it(name):
    """Whatever the first images were: the scales of the maps are those of the canvas."""
    ours, theirs = pair(name)
    for height, width, sizes in ((128, 128, [[64, 128]]), (8, 8, [[8, 8]]), (128, 128, [[40, 128]])):
        images, sizes = torch.randn(1, 3, height, width, dtype=torch.float64), torch.tensor(sizes)
        with torch.no_grad():
            found = [network.eval()(images, sizes=sizes)[0] for network in (ours, theirs)]
        assert_equal(*found)
        assert height == 8 or len(found[0]["boxes"]) > 5
    targets = [{"boxes": _BOXES[:2] / 3, "labels": torch.tensor([0, 2])}]
    mine, other = (trained(network, images, targets, sizes) for network in (ours, theirs))
    assert_equal(mine[0], other[0])
    assert_equal(mine[1], other[1])


@pytest.mark.parametrize("name", SMALL)
def test_losses_without_objects_are_torchvisions_and_finite(name):
    nothing = [{"boxes": torch.zeros(0, 4, dtype=torch.float64), "labels": torch.zeros(0, dtype=torch.int64)}] * 2
    ours, theirs = pair(name)
    mine, other = (trained(network, IMAGES, nothing) for network in (ours, theirs))
    assert all(torch.isfinite(loss) for loss in mine[0].values())
    assert_equal(mine[0], other[0])
    assert_equal(mine[1], other[1])


# ---------------------------------------------------------------------- each part by itself


def test_anchors_are_torchvisions():
    sizes, ratios = ((8, 13), (16, 20), (32, 40)), (0.5, 1.0, 3.0)
    maps = [torch.zeros(2, 4, side, side + 3) for side in (24, 12, 5)]
    mine = anchors.AnchorGenerator(sizes, ratios)(maps, (96, 128))
    theirs = TheirAnchors(sizes, (ratios,) * 3)(ImageList(torch.zeros(2, 3, 96, 128), [(96, 128)] * 2), maps)
    assert torch.equal(torch.cat(mine), theirs[0]) and torch.equal(theirs[0], theirs[1])


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_offsets_are_those_of_torchvisions_box_coder(weights):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 50, 2, 2, generator=generator, dtype=torch.float64) * 90
    boxes, around = torch.cat((corners.amin(dim=2), corners.amax(dim=2) + 1), dim=-1)
    coder = _utils.BoxCoder(weights)
    torch.testing.assert_close(encode_boxes(boxes, around, weights), coder.encode_single(boxes, around))
    offsets = torch.randn(50, 4, generator=generator, dtype=torch.float64) * 20  # some beyond the largest scale
    torch.testing.assert_close(decode_boxes(offsets, around, weights), coder.decode_single(offsets, around))


@pytest.mark.parametrize("every_box", [True, False])
def test_matches_are_torchvisions_however_many_boxes_are_held_at_a_time(every_box, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(230, 2, 2, generator=generator, dtype=torch.float64) * 60
    boxes, around = torch.cat((corners.amin(dim=1), corners.amax(dim=1) + 1), dim=1).split((30, 200))
    matcher = _utils.Matcher(0.5, 0.3, allow_low_quality_matches=every_box)
    wanted = matcher(pairwise_iou(boxes, around))
    assert torch.equal(matching.match(boxes, around, 0.3, 0.5, every_box), wanted)
    monkeypatch.setattr(matching, "MOST_PAIRS", 1000)
    assert torch.equal(matching.match(boxes, around, 0.3, 0.5, every_box), wanted)
    assert set(wanted.tolist()) > {-1, -2}


def test_samples_are_torchvisions_under_one_seed():
    labels = torch.randint(-1, 2, (300,), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    (positive,), (negative,) = _utils.BalancedPositiveNegativeSampler(64, 0.25)([labels])
    torch.manual_seed(0)
    mine = matching.sample(labels, 64, 0.25)
    assert torch.equal(mine[0], positive.nonzero().flatten()) and torch.equal(mine[1], negative.nonzero().flatten())
    assert [len(part) for part in mine] == [16, 48]


# ---------------------------------------------------------------------- a check that catches nothing proves nothing


def _turn(cells):
    for cell in cells:
        cell.copy_(cell[:, [1, 0, 3, 2]])


def _average(fpn):
    fpn.extra_blocks.forward = lambda coarsest: [torch.nn.functional.avg_pool2d(coarsest, 2)]


def _no_relu(fpn):
    fpn.extra_blocks.forward = lambda x: [fpn.extra_blocks.p6(x), fpn.extra_blocks.p7(fpn.extra_blocks.p6(x))]


MISTAKES = {
    ("faster_rcnn", "ratios are width over height"): lambda n: _turn(n.rpn.anchors.cells),
    ("faster_rcnn", "the pyramid's last level is an average"): lambda n: _average(n.backbone.fpn),
    ("faster_rcnn", "proposals overlap more"): lambda n: setattr(n.rpn, "nms_thresh", 0.75),
    ("faster_rcnn", "anchors are matched from 0.5"): lambda n: setattr(n.rpn, "fg_iou_thresh", 0.5),
    ("faster_rcnn", "anchors are sampled otherwise"): lambda n: setattr(n.rpn, "positive_fraction", 0.005),
    ("faster_rcnn", "regions are of a level too fine"): lambda n: setattr(n.roi_heads, "canonical_size", 112),
    ("faster_rcnn", "regions' offsets are weighted otherwise"): lambda n: setattr(
        n.roi_heads, "bbox_reg_weights", (10, 10, 5, 5.01)
    ),
    ("faster_rcnn", "regions are cut at fewer points"): lambda n: setattr(n.roi_heads, "sampling_ratio", 1),
    ("retinanet", "P7 is made without a rectification"): lambda n: _no_relu(n.backbone.fpn),
    ("retinanet", "what lies between is background"): lambda n: setattr(n, "bg_iou_thresh", 0.5),
    ("retinanet", "a map's candidates are fewer"): lambda n: setattr(n, "topk_candidates", 20),
    ("retinanet", "what overlaps by half stays"): lambda n: setattr(n, "nms_thresh", 0.55),
}


def answers(network, images, targets):
    torch.manual_seed(0)
    with torch.no_grad():
        losses = network.train()(images, targets, SIZES)
        return [*losses.values(), *(part for found in network.eval()(images, sizes=SIZES) for part in found.values())]


@pytest.fixture(scope="module")
def right():
    """For each detector ours, and what torchvision's answers."""
    pairs = {name: pair(name) for name in SMALL}
    return {name: (ours, answers(theirs, IMAGES, TARGETS)) for name, (ours, theirs) in pairs.items()}


def differ(ours, wanted):
    pairs = zip(answers(ours, IMAGES, TARGETS), wanted, strict=True)
    return any(
        mine.shape != other.shape or (mine.numel() and (mine - other).abs().max() > 1e-6) for mine, other in pairs
    )


@pytest.mark.parametrize("name", SMALL)
def test_without_a_mistake_nothing_differs(name, right):
    assert not differ(copy.deepcopy(right[name][0]), right[name][1])


@pytest.mark.parametrize(("name", "mistake"), MISTAKES)
def test_a_planted_mistake_shows(name, mistake, right):
    ours = copy.deepcopy(right[name][0])
    MISTAKES[name, mistake](ours)
    assert differ(ours, right[name][1])


# ---------------------------------------------------------------------- weights, and torchvision's from end to end


@pytest.mark.parametrize("name", SMALL)
def test_files_under_the_names_of_2020_load(name, tmp_path):
    theirs = create_detector(name, source="torchvision", **COMMON, **SMALL[name])
    old = as_of_2020(theirs.state_dict())
    assert not old.keys() >= {key for key in theirs.state_dict() if "conv.0.0" in key}
    torch.save(old, tmp_path / "old.pth")
    ours = create_detector(name, frozen_norm=True, weights=tmp_path / "old.pth", **COMMON, **SMALL[name])
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


def test_a_predictor_for_other_classes_starts_anew(tmp_path):
    options = {**COMMON, **SMALL["faster_rcnn"]}
    torch.save(create_detector("faster_rcnn", **options).state_dict(), tmp_path / "three.pth")
    ours = create_detector("faster_rcnn", weights=tmp_path / "three.pth", **{**options, "num_classes": 5})
    three = torch.load(tmp_path / "three.pth")
    changed = {key for key, value in ours.state_dict().items() if not torch.equal(value, three[key])}
    assert {key.rpartition(".")[0] for key in changed} == {
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
    }


WHOLE = {"fasterrcnn_resnet50_fpn": fasterrcnn_resnet50_fpn, "retinanet_resnet50_fpn": retinanet_resnet50_fpn}


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_published_weights_give_what_torchvisions_own_detector_gives(name, tmp_path, monkeypatch):
    state = WHOLE[name](weights=None, weights_backbone=None).state_dict()
    randomise(state, seed=0)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    write_published(tmp_path, name, state)
    as_it_is = {"min_size": 128, "max_size": 128, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    theirs = (
        WHOLE[name](weights="COCO_V1", detections_per_img=100, **as_it_is)
        if name.startswith("retina")
        else (WHOLE[name](weights="COCO_V1", **as_it_is))
    )
    theirs, ours = theirs.double(), create_detector(name, pretrained=True).double()
    theirs.transform.torch_choice = lambda sizes: sizes[0]  # of one size it would draw too, and shift what is sampled

    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mine, gradients = trained(ours, images, TARGETS, sizes=None)
    shift = int(name.startswith("faster"))  # its first class is the background
    torch.manual_seed(0)
    wanted = [{"boxes": target["boxes"], "labels": target["labels"] + shift} for target in TARGETS]
    losses = theirs.train()(list(images), wanted)
    sum(losses.values()).backward()
    assert abs(sum(mine.values()) - sum(losses.values())) < 1e-6  # its objectness is float32
    others = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    assert {key for key, value in gradients.items() if value is None} == {key for key in others if others[key] is None}
    with torch.no_grad():
        found = zip(ours.eval()(images), theirs.eval()(list(images)), strict=True)
    for mine, other in found:
        assert len(mine["boxes"]) > 5
        assert_equal(mine, {**other, "labels": other["labels"] - shift})
