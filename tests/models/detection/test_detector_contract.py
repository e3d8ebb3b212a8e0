"""What every detector keeps to, over whatever backbone and whoever wrote it, and what it makes of bad input."""

import pytest
import torch

from cnnbench.errors import UserError
from cnnbench.layers.frozen_norm import FrozenBatchNorm2d
from cnnbench.models import check_input_size
from cnnbench.models.detection import create_detector, detector_info, list_detectors

SMALL = {
    "yolo": {"anchors": [[8, 8], [16, 16], [32, 32]]},
    "faster_rcnn": {"anchor_sizes": [[8], [16], [32], [48], [64]], "representation_size": 16},
    "retinanet": {"anchor_sizes": [[8], [16], [32], [48], [64]]},
}
PAIRS = [
    (name, source)
    for name in SMALL
    for source in ("cnnbench", "torchvision")
    if source == "cnnbench" or detector_info(name).reference is not None
]
NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
ONE = {"boxes": torch.tensor([[4.0, 4, 30, 40]]), "labels": torch.tensor([2])}


def build(name, source="cnnbench", **kwargs):
    torch.manual_seed(0)
    options = {"backbone": "resnet18", "num_classes": 3, "fpn_channels": 8, **SMALL[name], **kwargs}
    return create_detector(name, source=source, **options)


@pytest.fixture(scope="module")
def detectors():
    return {pair: build(*pair) for pair in PAIRS}


@pytest.fixture(params=PAIRS, ids="/".join)
def detector(request, detectors):
    return detectors[request.param].train()


def images(count=2, height=64, width=64):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def learn(detector, images, targets):
    detector.zero_grad()
    losses = detector(images, targets)
    sum(losses.values()).backward()
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values())
    return losses


def test_all_are_tested():
    assert {name for name in list_detectors() if detector_info(name).published is None} == set(SMALL)


def test_a_batch_without_any_object_has_finite_losses_and_every_weight_a_gradient(detector):
    learn(detector, images(), [NOTHING, NOTHING])
    gradients = [parameter.grad for parameter in detector.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0


def test_a_thousand_objects_are_learned(detector):
    corner = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)) * 50
    crowd = {"boxes": torch.cat((corner, corner + 9), dim=1), "labels": torch.arange(1000) % 3}
    learn(detector, images(), [crowd, ONE])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"boxes": torch.tensor([[5.0, 5, 5, 9]])}, r"object 0 of image 1 of the batch has the box \(5, 5, 5, 9\)"),
        ({"boxes": torch.tensor([[20.0, 30, 10, 8]])}, "with x2 > x1 and y2 > y1"),
        ({"boxes": torch.tensor([[1.0, float("nan"), 5, 9]])}, "finite numbers"),
        ({"boxes": torch.tensor([[1.0, 2, 5, float("inf")]])}, "finite numbers"),
        ({"labels": torch.tensor([3])}, "is of class 3, and the detector knows 3, from 0"),
        ({"labels": torch.tensor([-1])}, "is of class -1"),
        ({"boxes": torch.zeros(1, 5)}, r"boxes \(1, 5\) and labels \(1,\); they should be \(N, 4\) and \(N,\)"),
        ({"labels": torch.tensor([0, 1])}, r"labels \(2,\)"),
        ({"labels": torch.tensor([0.0])}, "labels of torch.float32"),
    ],
)
def test_wrong_targets_are_named(detector, target, message):
    with pytest.raises(UserError, match=message):
        detector(images(), [ONE, {**ONE, **target}])


def test_missing_targets_are_named(detector):
    with pytest.raises(UserError, match="needs targets in training mode"):
        detector(images())
    with pytest.raises(UserError, match="targets for 1 images, and 2 images"):
        detector(images(), [ONE])


@torch.no_grad()
@pytest.mark.parametrize(("name", "source"), PAIRS)
def test_nothing_may_be_found(name, source):
    threshold = "box_score_thresh" if name == "faster_rcnn" else "score_thresh"
    for of_image in build(name, source, **{threshold: 1.0}).eval()(images()):
        assert of_image["boxes"].shape == (0, 4) and of_image["scores"].shape == of_image["labels"].shape == (0,)


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(8, 8), (40, 256)])
def test_small_and_long_images(detector, height, width):
    for of_image in detector.eval()(images(1, height, width)):
        assert torch.isfinite(of_image["boxes"]).all() and (of_image["boxes"] >= 0).all()
        assert (of_image["boxes"][:, 2] <= width).all() and (of_image["boxes"][:, 3] <= height).all()


@torch.no_grad()
def test_what_is_found_lies_in_the_image_and_not_in_what_pads_it(detector):
    sizes = torch.tensor([[64, 64], [40, 24]])
    for of_image, (height, width) in zip(detector.eval()(images(), sizes=sizes), sizes.tolist(), strict=True):
        assert len(of_image["boxes"]) <= 100 and (of_image["scores"].diff() <= 0).all()
        assert (of_image["boxes"][:, 2] <= width).all() and (of_image["boxes"][:, 3] <= height).all()
        assert ((of_image["labels"] >= 0) & (of_image["labels"] < 3)).all()


def test_whether_images_are_large_enough_is_told_without_objects(detector):
    check_input_size(detector, 3, (64, 64))


@pytest.mark.parametrize("name", SMALL)
def test_half_precision_keeps_losses_and_boxes_in_float32(name, detectors):
    detector = detectors[name, "cnnbench"].train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = learn(detector, images(), [ONE, NOTHING])
        found = detector.eval()(images())
    assert (
        {loss.dtype for loss in losses.values()} == {of_image["boxes"].dtype for of_image in found} == {torch.float32}
    )


# ---------------------------------------------------------------------- backbones


@pytest.mark.parametrize(
    ("backbone", "source"),
    [
        ("resnet18", "timm"),
        ("mobilenetv2_050", "cnnbench"),
        pytest.param("densenet121", "cnnbench", marks=pytest.mark.slow),
        ("convnext_atto", "timm"),
        pytest.param("vgg11", "cnnbench", marks=pytest.mark.slow),
        pytest.param("swin_tiny_patch4_window7_224", "timm", marks=pytest.mark.slow),
    ],
)
def test_any_classifier_is_a_backbone(backbone, source):
    special = {"out_indices": (1, 2, 3)} if backbone.startswith("swin") else {}
    detector = build("yolo", backbone=backbone, backbone_source=source, in_chans=1, **special)
    size = 224 if special else 64
    learn(detector, torch.randn(2, 1, size, size), [ONE, NOTHING])


def test_our_backbone_and_timms_are_one_function():
    ours, theirs = (build("yolo", backbone_source=source, score_thresh=0.0).eval() for source in ("cnnbench", "timm"))
    theirs.load_state_dict(ours.state_dict(), strict=True)
    with torch.no_grad():
        for mine, other in zip(ours(images()), theirs(images()), strict=True):
            assert all(torch.equal(mine[key], other[key]) for key in mine) and len(mine["boxes"])


def test_a_head_of_several_widths_and_of_one_map():
    bare = build("yolo", fpn_channels=0)
    assert bare.backbone.out_channels == [128, 256, 512]
    learn(bare, images(), [ONE, NOTHING])
    alone = build("yolo", strides=(32,))
    assert [tuple(x.shape[1:3]) for x in alone.head(alone.backbone(images()))] == [(2, 2)]


def test_which_weights_a_backbone_has_does_not_make_it_another():
    with torch.device("meta"):
        create_detector("fasterrcnn_resnet50_fpn", backbone="resnet50.tv_in1k")


def test_frozen_norms_and_stages_stay_what_they_are():
    detector = build("faster_rcnn", frozen_norm=True, frozen_stages=2)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.1)
    learn(detector, images(), [ONE, NOTHING])
    optimizer.step()
    changed = {key for key, value in detector.state_dict().items() if not torch.equal(value, before[key])}
    assert not any(word in key for key in changed for word in ("bn", "body.conv1", "layer1"))
    assert any("layer2" in key for key in changed)
    assert sum(isinstance(module, FrozenBatchNorm2d) for module in detector.modules()) == 20


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("yolov8", {}, "unknown detector 'yolov8'; did you mean 'yolo'"),
        ("yolo", {"source": "torchvision"}, "torchvision has no yolo"),
        ("yolo", {"source": "timm"}, "unknown source 'timm' of a detector"),
        ("yolo", {"backbone": "resnet19"}, "unknown model 'resnet19'; did you mean"),
        ("yolo", {"anchor": [[8, 8]]}, "yolo has no argument 'anchor'; did you mean 'anchors'"),
        ("yolo", {"num_classes": 0}, "num_classes to be a whole number of at least 1, not 0"),
        ("yolo", {"strides": (8, 16, 64)}, "resnet18 has no feature map of stride 64: choose out_indices among"),
        ("yolo", {"pretrained": True}, "yolo has no published weights"),
        ("retinanet", {"fpn_channels": 0}, "needs a pyramid"),
        ("retinanet", {"anchor_sizes": [[8], [16]]}, "anchor_sizes for 2 feature maps, and there are 5"),
        ("retinanet", {"anchor_sizes": [[8], [16], [0], [9], [9]]}, "above 0"),
        ("retinanet", {"anchor_sizes": [[8], [16], [8, 9], [9], [9]]}, "as many anchor sizes"),
        ("faster_rcnn", {"frozen_stages": 9}, "frozen_stages of resnet18 is 0 to 5, not 9"),
        ("fasterrcnn_resnet50_fpn", {}, "the backbone of fasterrcnn_resnet50_fpn is resnet50, not resnet18"),
    ],
)
def test_wrong_arguments_are_named(name, options, message):
    with pytest.raises(UserError, match=message):
        create_detector(name, **{"backbone": "resnet18", "num_classes": 3, **options})
