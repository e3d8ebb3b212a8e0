"""Parity as a line of anybody's test suite."""

import operator
from typing import Any

from cnnbench.compare.failure import why_not_equal
from cnnbench.compare.parity import check_parity
from cnnbench.compare.probe import Size, check_comparable
from cnnbench.compare.settings import Settings
from cnnbench.compare.sides import Spec, parity_image_size, side
from cnnbench.errors import UserError, did_you_mean

SETTINGS = ("image_size", "num_classes", "input_size", "seed")


def assert_parity(
    model: Spec,
    reference: Spec,
    *,
    image_size: int | None = None,
    num_classes: int | None = None,
    input_size: Size | None = None,
    seed: int = 0,
    **unknown: Any,
) -> None:
    """Assert that two networks compute the same function: outputs, features, gradients and buffers, in float64.

    Args:
        model: A name ("resnet50", "timm/resnet50", "package.module:callable"), a module, which is copied, or a
            callable that returns one.
        reference: What it must equal, in the same forms.
        image_size: Height and width of the images; None: the network's own where it tells, at most 128 pixels where
            it takes any, else 224.
        num_classes: Of both, where they take it; None: what each has by itself.
        input_size: Channels, height and width, instead of `image_size`.
        seed: Of weights and images.
        unknown: Refused.

    Raises:
        AssertionError: They part; the message names the first place and, where it can be read off, the cause.
        UserError: They cannot be compared, or a setting is wrong.
    """
    __tracebackhide__ = True
    for name in unknown:
        raise UserError(f"unknown setting {name!r}{did_you_mean(name, SETTINGS)}")
    settings = Settings(checks=("parity",), image_size=image_size, num_classes=num_classes, seed=seed)
    ours, theirs = side(model, num_classes), side(reference, num_classes)
    size = parity_image_size(ours, theirs, settings.image_size) if input_size is None else _checked(input_size)
    check_comparable(ours, theirs, size)
    parity = check_parity(ours, theirs, size, seed=settings.seed)
    if not parity.passed:
        raise AssertionError("\n".join([f"{ours.label} does not equal {theirs.label}", *why_not_equal(parity)]))


def _checked(input_size: Size) -> Size:
    if isinstance(input_size, int):
        raise UserError(f"`input_size` is (channels, height, width): for {input_size} pixels `image_size={input_size}`")
    try:
        channels, height, width = map(operator.index, input_size)
    except (TypeError, ValueError) as error:
        raise UserError(f"`input_size` is {input_size!r}, but must be (channels, height, width)") from error
    return channels, height, width
