"""The weights of one network in a file that another loads."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from cnnbench.callbacks.atomic import written_whole
from cnnbench.compare.align import align
from cnnbench.compare.sides import Spec, parity_image_size, reference_of, side
from cnnbench.errors import UserError


def save_aligned(
    model: Spec, against: Spec | None, path: Path, image_size: int | None = None, num_classes: int | None = None
) -> None:
    """Write the weights of one network under the names and in the shapes of another.

    Args:
        model: Whose weights are written, as it builds itself.
        against: Whose names they take; None: those of the model's reference.
        path: A `.safetensors` file; its folder exists.
        image_size: Height and width on which both run; None: their own.
        num_classes: Of both; None: their own.

    Raises:
        UserError: Some tensor has no counterpart.
    """
    ours = side(model, num_classes)
    theirs = reference_of(model, num_classes) if against is None else side(against, num_classes)
    source, target = ours.build(), theirs.build()
    weights = source.state_dict()
    kept = {key: tensor.clone() for key, tensor in weights.items()}  # a run in training mode moves running averages
    size = parity_image_size(ours, theirs, image_size)
    alignment = align(source, target, torch.randn(2, *size, generator=torch.Generator().manual_seed(0)))
    if alignment.differences:
        first, *rest = alignment.differences
        more = f", and {len(rest)} more" if rest else ""
        raise UserError(f"the weights of {ours.label} do not all fit {theirs.label}: {first}{more}")
    converted = alignment.convert(kept, target.state_dict())
    with written_whole(path) as temporary:
        save_file({key: tensor.contiguous().clone() for key, tensor in converted.items()}, temporary, {"format": "pt"})
