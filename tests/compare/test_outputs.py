"""What networks return is compared part by part, and the user is told what cannot be."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from cnnbench.compare.parity import compare_networks
from cnnbench.compare.result import Comparison
from cnnbench.errors import UserError

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@dataclass
class Answer:
    logits: Tensor
    aux: Tensor


class Heads(nn.Module):
    """Two heads, and what is made of them."""

    def __init__(self, answer, classes=5):
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 4, 3), nn.Linear(4, classes), nn.Linear(4, 2)
        self.answer = answer

    def forward(self, x):
        x = self.stem(x).relu().mean((2, 3))
        return self.answer(self.one(x), self.two(x))


def detections(one, two):
    """A dictionary an image, as detectors return them: boxes, labels and a count of them that the image decides."""
    return [{"boxes": a[a > 0], "labels": b.argmax(), "scores": b} for a, b in zip(one, two, strict=True)]


ANSWERS = {
    "a tuple": lambda one, two: (one, two),
    "a dictionary": lambda one, two: {"out": one, "aux": two},
    "a data class": Answer,
    "nested": lambda one, two: {"heads": [one, (two,)], "loss": None},
    "detections": detections,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_parts_are_compared(answer):
    assert compare_networks(Heads(answer), Heads(answer), IMAGES).passed
    wrong = compare_networks(Heads(lambda one, two: answer(one, two * 1.001)), Heads(answer), IMAGES)
    assert not wrong.passed
    assert wrong.first_divergence is not None


@pytest.mark.parametrize("other", ["another order", "a data class"])
def test_parts_of_one_name_belong_together(other):
    made = {"another order": lambda one, two: {"aux": two, "logits": one}, "a data class": Answer}[other]
    assert compare_networks(Heads(made), Heads(lambda one, two: {"logits": one, "aux": two}), IMAGES).passed


def test_a_missing_part_is_said():
    parity = compare_networks(Heads(lambda one, two: one), Heads(lambda one, two: (one, two)), IMAGES)
    assert not parity.passed
    assert parity.weights.differences == [
        "in evaluation ours puts out 1 tensor, theirs 2: only the first are compared",
        "in training ours puts out 1 tensor, theirs 2: only the first are compared",
    ]
    assert parity.max_relative_error.logits == 0


@pytest.mark.parametrize(
    ("ours", "theirs", "notes"),
    [
        (lambda one, two: (one,), lambda one, two: one, ["ours returns a tuple of one, theirs a tensor"]),
        (lambda one, two: one, lambda one, two: {"out": one}, ["ours returns a tensor, theirs a dict of one"]),
        (lambda one, two: [one, two], lambda one, two: (one, two), ["ours returns a list of 2, theirs a tuple of 2"]),
        (lambda one, two: (one,), lambda one, two: (one,), []),
    ],
)
def test_other_forms_of_the_same_tensors_are_noted(ours, theirs, notes):
    parity = compare_networks(Heads(ours), Heads(theirs), IMAGES)
    assert parity.passed and parity.notes == notes
    shown = str(Comparison("ours", "theirs", parity=parity))
    assert [line.split(maxsplit=1)[1] for line in shown.splitlines() if line.startswith("  note ")] == notes


class Broken(nn.Module):
    def __init__(self, broken):
        super().__init__()
        self.conv, self.broken = nn.Conv2d(3, 4, 3), broken

    def forward(self, x):
        return self.broken(self, self.conv(x))


def only_in_evaluation(module, x):
    if module.training:
        raise ValueError("targets are missing\nand more")
    return x


def not_at_all(module, x):
    raise RuntimeError("boom")


MISTAKES = {
    "classes": (
        lambda: Heads(lambda one, two: one, classes=10),
        lambda: Heads(lambda one, two: one, classes=1000),
        "ours puts out 10 classes, theirs 1000: give both one `num_classes`",
    ),
    "shape": (
        lambda: nn.Conv2d(3, 4, 3),
        lambda: nn.Conv2d(3, 4, 1),
        "ours puts out 4x6x6 an image, theirs 4x8x8: they cannot be compared",
    ),
    "raises": (
        lambda: Broken(not_at_all),
        lambda: nn.Conv2d(3, 4, 3),
        "ours (Broken) cannot run in training mode on images of 3x8x8: RuntimeError: boom",
    ),
    "raises while training": (
        lambda: nn.Conv2d(3, 4, 3),
        lambda: Broken(only_in_evaluation),
        "theirs (Broken) cannot run in training mode on images of 3x8x8: ValueError: targets are missing",
    ),
    "no tensor": (
        lambda: Broken(lambda module, x: {"count": 3}),
        lambda: nn.Conv2d(3, 4, 3),
        "ours (Broken) returns dict, in which there is no tensor",
    ),
    "channels": (
        lambda: nn.Conv2d(3, 4, 3),
        lambda: nn.Conv2d(1, 4, 3),
        "theirs (Conv2d) cannot run in training mode on images of 3x8x8: RuntimeError: Given groups=1",
    ),
}


@pytest.mark.parametrize(("ours", "theirs", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_network_that_cannot_be_compared_is_named_in_a_line(ours, theirs, line):
    with pytest.raises(UserError) as raised:
        compare_networks(ours(), theirs(), IMAGES)
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)
