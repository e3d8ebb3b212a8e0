"""Parity as a line of anybody's test suite."""

from cnnbench.compare.failure import why_not_equal
from cnnbench.compare.parity import check_parity
from cnnbench.compare.probe import Size, check_comparable
from cnnbench.compare.sides import Spec, parity_image_size, side


def assert_parity(model: Spec, reference: Spec, *, input_size: Size | None = None, seed: int = 0) -> None:
    """Assert that two networks compute the same function: outputs, features, gradients and buffers, in float64.

    Args:
        model: A name ("resnet50", "timm/resnet50", "package.module:callable"), a module, which is copied, or a
            callable that returns one.
        reference: What it must equal, in the same forms.
        input_size: Channels, height and width of the images; None: the network's own where it tells, else 3x224x224.
        seed: Of weights and images.

    Raises:
        AssertionError: They part; the message names the first place and, where it can be read off, the cause.
        UserError: They cannot be compared.
    """
    __tracebackhide__ = True
    ours, theirs = side(model), side(reference)
    size = parity_image_size(ours, theirs) if input_size is None else input_size
    check_comparable(ours, theirs, size)
    parity = check_parity(ours, theirs, size, seed=seed)
    if not parity.passed:
        raise AssertionError("\n".join([f"{ours.label} does not equal {theirs.label}", *why_not_equal(parity)]))
