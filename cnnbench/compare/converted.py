"""The weights of one network in another, or in a file that the other loads."""

from pathlib import Path

from safetensors.torch import save_file
from timm.models import get_model_input_config
from torch import Tensor, nn

from cnnbench.callbacks.atomic import written_whole
from cnnbench.compare.parity import align, images
from cnnbench.compare.sides import Spec, parity_image_size, reference_of, side
from cnnbench.errors import UserError

Size = tuple[int, int, int]


def copy_aligned(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy the weights of one network into another, whatever the names.

    Raises:
        UserError: Some tensor has no counterpart.
    """
    known = next((network for network in (theirs, ours) if getattr(network, "pretrained_cfg", None)), theirs)
    size = tuple(get_model_input_config(known)["input_size"])
    theirs.load_state_dict(_converted(ours, theirs, size, ("ours", "theirs")))


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
    size = parity_image_size(ours, theirs, image_size)
    converted = _converted(ours.build(), theirs.build(), size, (ours.label, theirs.label))
    with written_whole(path) as temporary:  # cloned: the format knows no tensors that share memory
        save_file({key: tensor.clone() for key, tensor in converted.items()}, temporary, {"format": "pt"})


def _converted(source: nn.Module, target: nn.Module, size: Size, labels: tuple[str, str]) -> dict[str, Tensor]:
    alignment = align(source, target, images(size))
    if alignment.differences:
        first, *rest = alignment.differences
        more = f", and {len(rest)} more" if rest else ""
        raise UserError(f"the weights of {labels[0]} do not all fit {labels[1]}: {first}{more}")
    return alignment.convert(source.state_dict(), target.state_dict())
