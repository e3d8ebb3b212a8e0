"""Whether two networks can be compared at all: each is run once, and what is wrong is said of the side it is on."""

import torch
from torch import Tensor, nn

from cnnbench.compare.sides import Side, tensors_of
from cnnbench.errors import UserError, first_line
from cnnbench.models import check_input_size

SIDES = (28, 32, 64, 96, 128, 160, 192, 224, 227, 240, 256, 288, 299, 320, 384, 448, 512)  # of images, where one fails

Size = tuple[int, int, int]


def check_comparable(ours: Side, theirs: Side, size: Size) -> None:
    """Build and run both sides once in each mode, and refuse what cannot be compared.

    Args:
        ours: One side.
        theirs: The other.
        size: Channels, height and width of the images.

    Raises:
        UserError: A side cannot be built, is no module, raises in forward, takes another input size, or returns no
            tensor; or the two have different numbers of classes.
    """
    shapes = [_output_shape(side, size) for side in (ours, theirs)]
    if all(len(shape) == 2 for shape in shapes) and shapes[0][1] != shapes[1][1]:
        counts = [f"{side.label} has {shape[1]} classes" for side, shape in zip((ours, theirs), shapes, strict=True)]
        raise UserError(f"{' and '.join(counts)}: give both the same `num_classes`, where they take it")


def _output_shape(side: Side, size: Size) -> torch.Size:
    """Return the shape of the first tensor that a side puts out in evaluation mode."""
    network = side.build()
    for training in (True, False):
        try:
            output = _run(network.train(training), size)
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # whatever a user's own network raises
            raise _explained(side, network, size, error) from error
    if not (tensors := tensors_of(output)):
        raise UserError(f"{side.label} returns {type(output).__name__} from forward, and no tensor in it")
    return tensors[0].shape


def _run(network: nn.Module, size: Size) -> object:
    first: Tensor | None = next(network.parameters(), None)
    like = torch.zeros((), dtype=torch.float32) if first is None else first
    with torch.no_grad():
        return network(torch.randn(2, *size).to(like))


def _explained(side: Side, network: nn.Module, size: Size, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    if getattr(network, "pretrained_cfg", None):  # a library's network tells its size
        try:
            check_input_size(network, size[0], size[1:])
        except UserError as wrong_size:
            return UserError(f"{side.label}: {wrong_size}")
    squares = ((size[0], n, n) for n in SIDES)
    hint = next(
        (f"; it runs on {_shown(square)}: `image_size={square[1]}`" for square in squares if _runs(network, square)), ""
    )
    what = f"{type(error).__name__}: {first_line(error)}"
    return UserError(f"{side.label} raises in forward on images of {_shown(size)}: {what}{hint}")


def _shown(size: Size) -> str:
    return "x".join(map(str, size))


def _runs(network: nn.Module, size: Size) -> bool:
    try:
        _run(network, size)
    except Exception:
        return False
    return True
