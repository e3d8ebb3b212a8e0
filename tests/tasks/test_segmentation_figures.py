"""Losses and metrics of segmentation against torchmetrics, torchvision and closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchvision.ops import sigmoid_focal_loss

from cnnbench.errors import UserError
from cnnbench.tasks import SegmentationTask
from cnnbench.tasks.segmentation_losses import LOSSES, CrossEntropyLoss, DiceLoss, FocalLoss, coarser_masks
from cnnbench.tasks.segmentation_metrics import SegmentationMetrics, classes_of


@pytest.fixture
def logits():
    return torch.randn(2, 4, 9, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def target():
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(0, 3, (2, 9, 7), generator=generator)  # the class 3 does not occur
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    return target


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.5, 2.0, 4.0])])
def test_cross_entropy_is_torchs(logits, target, weights):
    reference = F.cross_entropy(logits, target, weights, ignore_index=255)
    torch.testing.assert_close(CrossEntropyLoss(weights)(logits, target), reference)


def test_focal_loss_of_two_classes_is_torchvisions(logits, target):
    target = target.clamp(max=1)
    two = torch.stack((torch.zeros_like(logits[:, 0]), logits[:, 0]), dim=1)
    reference = sigmoid_focal_loss(logits[:, 0], target.float(), alpha=-1, gamma=2, reduction="mean")
    torch.testing.assert_close(FocalLoss()(two, target), reference)
    torch.testing.assert_close(FocalLoss(gamma=0.0)(logits, target), CrossEntropyLoss()(logits, target))


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_a_pixel_of_which_nothing_is_missing_has_no_focal_loss_and_no_gradient(gamma):
    logits = torch.tensor([40.0, 0.3, 0.0, 1.0]).view(1, 2, 1, 2).requires_grad_()
    loss = FocalLoss(gamma=gamma)(logits, torch.zeros(1, 1, 2, dtype=torch.long))
    loss.backward()
    p = 1 / (1 + math.exp(0.7))
    assert loss.item() == pytest.approx(-math.log(p) * (1 - p) ** gamma / 2)
    assert logits.grad[0, :, 0, 0].abs().max() < 1e-15
    assert logits.grad[0, :, 0, 1].isfinite().all()
    assert (logits.grad[0, :, 0, 1] != 0).all()


def test_dice_loss_is_one_minus_the_dice_of_the_classes_that_are_there(logits, target):
    counts = (target != 255).flatten()
    probabilities = logits.softmax(1).movedim(1, -1).reshape(-1, 4)[counts]
    there = target.flatten()[counts]
    dice = [
        (2 * probabilities[there == c, c].sum() + 1) / (probabilities[:, c].sum() + (there == c).sum() + 1)
        for c in range(3)
    ]
    torch.testing.assert_close(DiceLoss()(logits, target), 1 - torch.stack(dice).mean())


@pytest.mark.parametrize("name", LOSSES)
def test_pixels_that_do_not_count_change_nothing(logits, target, name):
    loss = LOSSES[name](torch.tensor([1.0, 2.0, 3.0, 4.0]), 2.0)
    logits.requires_grad_()
    value = loss(logits, target)
    value.backward()
    ignored = (target == 255)[:, None].expand_as(logits)
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).any()
    torch.testing.assert_close(loss(logits.detach() + 9 * ignored * torch.randn_like(logits), target), value.detach())
    assert loss(logits, torch.full_like(target, 255)) == 0


def test_metrics_are_torchmetrics(logits, target):
    metrics, reference = SegmentationMetrics(4), MulticlassJaccardIndex(4, ignore_index=255)
    each = MulticlassJaccardIndex(4, average="none", ignore_index=255)
    accuracy = MulticlassAccuracy(4, average="micro", ignore_index=255)
    for some, there in zip(logits, target, strict=True):
        metrics.update(classes_of(some[None]), there[None].to(torch.uint8))
        for other in (reference, each, accuracy):
            other.update(some[None], there[None])
    figures = metrics.figures("abcd")
    assert figures["miou"] == pytest.approx(reference.compute().item(), abs=1e-6)
    assert figures["pixel_accuracy"] == pytest.approx(accuracy.compute().item(), abs=1e-6)
    ious = [figures[f"iou_per_class/{name}"] for name in "abcd"]
    assert ious == pytest.approx(each.compute().tolist(), abs=1e-6)
    assert [figures[f"dice_per_class/{name}"] for name in "abcd"] == pytest.approx([2 * x / (1 + x) for x in ious])


def test_a_class_that_is_neither_found_nor_there_has_no_figure():
    metrics = SegmentationMetrics(3)
    metrics.update(torch.tensor([0, 0, 1], dtype=torch.uint8), torch.tensor([0, 255, 0], dtype=torch.uint8))
    figures = metrics.figures("abc")
    assert figures["iou_per_class/a"] == 0.5
    assert figures["iou_per_class/b"] == 0
    assert figures["miou"] == 0.25
    assert not any(name.endswith("/c") for name in figures)


def test_coarser_masks_are_the_pixels_in_the_middle_of_coarser_ones(target):
    half, third = coarser_masks(target, (12, 8), [torch.zeros(2, 4, 6, 4), torch.zeros(2, 4, 4, 1)])
    assert torch.equal(half[:, :4, :3], target[:, 1::2, 1::2])
    assert (half[:, 4:] == 255).all()  # rows 9 and 11 of images of 9 rows
    assert (half[..., 3] == 255).all()
    assert torch.equal(third[:, :3, 0], target[:, 1::3, 4])
    assert half.dtype == torch.int64


def test_the_greatest_logit_is_argmax_the_first_of_equal_ones():
    logits = torch.randint(0, 4, (2, 21, 150, 131)).float()
    assert torch.equal(classes_of(logits).long(), logits.argmax(1))
    many = torch.randn(1, 255, 8, 8)
    assert torch.equal(classes_of(many).long(), many.argmax(1))
    assert (classes_of(torch.full((1, 3, 2, 2), torch.nan)) < 3).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"losses": {"dise": 1.0}}, "unknown loss 'dise'; did you mean 'dice'"),
        ({"losses": {"dice": 0.0}}, "losses.dice is 0.0: its weight must be above 0"),
        ({"losses": {}}, "losses is empty"),
        ({"losses": {"dice": math.nan}}, "losses.dice is nan: its weight must be above 0"),
        ({"aux_weight": -1.0}, "aux_weight is -1.0: it must be a number of at least 0"),
        ({"focal_gamma": -1.0}, "focal_gamma is -1.0: it must be a number of at least 0"),
        ({"focal_gamma": math.nan}, "focal_gamma is nan: it must be"),
        ({"focal_gamma": math.inf}, "focal_gamma is inf: it must be"),
        ({"class_weights": [1.0, 2.0]}, "class_weights has 2 numbers: there are 3 classes"),
        ({"class_weights": [1.0, -2.0, 1.0]}, "none may be negative"),
        ({"class_weights": [1.0, math.nan, 1.0]}, "none may be negative"),
        ({"class_weights": [1.0, 2.0, 1.0], "losses": {"dice": 1.0}}, "class_weights are not for dice: leave them out"),
        ({"overlap": 16}, "overlap is 16, but there is no tile"),
        ({"num_classes": 300}, "masks of 8 bits have at most 255"),
    ],
)
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(UserError, match=message):
        SegmentationTask("unet", **{"num_classes": 3, "in_chans": 1, "model_args": {"widths": [4, 4]}, **options})
