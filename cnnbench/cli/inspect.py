"""`python -m cnnbench inspect MODEL`: a network's layers, what each costs and what it sees of the image."""

import argparse
import sys
from collections.abc import Sequence
from inspect import signature
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from cnnbench.cli.common.listing import Column, ListingParser, print_rows
from cnnbench.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from cnnbench.analysis import Inspection

NARROW = 100  # columns of a terminal; with fewer the types are left out
SIZE_ARGUMENTS = ("img_size", "image_size")  # of networks made for one size: timm's and ours, torchvision's
UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
EXPLANATION = """\
receptive field: pixels along a side that an output sees, those beyond the border counted; "all" after global pooling
and attention. Of branches all that they see together. Gates that see the whole image (squeeze-and-excitation) and the
statistics of norms are not counted.
stride: pixels between the fields of neighbouring outputs.
start: the centre of the first output's field; 0.5 is the centre of the image's first pixel.
Where height and width differ, both are given. MACs are multiply-adds of convolutions and matrix products, for one
image. A layer that runs in training only has parameters and no more. Sizes in JSON and CSV are of height and width."""


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _sides(pair: Sequence[Any]) -> str:
    """Return "7" for (7, 7), "1x7" for (1, 7), "-" for what is none."""
    texts = ["-" if side is None else str(side) for side in pair]
    return texts[0] if texts[0] == texts[1] else "x".join(texts)


def _short(macs: int) -> str:
    """Return 118013952 as "118.0M"."""
    for unit, letter in UNITS:
        if macs >= unit:
            return f"{macs / unit:.{3 if letter == 'G' else 1}f}{letter}"
    return str(macs)


COLUMNS = (
    Column("name", gives_way=True, keeps_end=True),
    Column("type", gives_way=True),
    Column("output_shape", "output", right=True, show=_shape),
    Column("parameters", right=True, show="{:,}".format),
    Column("macs", "MACs", right=True, show=_short),
    Column("receptive_field", "field", right=True, show=_sides),
    Column("stride", right=True, show=_sides),
    Column("start", right=True, show=_sides),
)


def run(args: Sequence[str] | None) -> None:
    """Print a row a layer, and last the totals.

    Raises:
        UserError: There is no such model, it cannot take such images, or it cannot run without data.
    """
    options = _parser().parse_args((sys.argv[1:] if args is None else list(args))[1:])
    inspection = _inspect(options)
    narrow = options.format == "table" and sys.stdout.isatty() and get_terminal_size().columns < NARROW
    columns = [column for column in COLUMNS if not narrow or column.key != "type"]
    print_rows([*map(_row, inspection.layers), _total(inspection)], columns, options.format)
    if options.format == "table":
        for note in _notes(inspection):
            print(note)


def _inspect(options: argparse.Namespace) -> "Inspection":
    from cnnbench.analysis import inspect_layers
    from cnnbench.models import check_input_size, pretrained_cfg

    usual = pretrained_cfg(options.model, options.source).get("input_size") or (3, 224, 224)
    channels = usual[0] if options.in_chans is None else options.in_chans
    size = tuple(usual[1:]) if options.image_size is None else (options.image_size, options.image_size)
    if min(size) < 1:
        raise UserError(f"--image-size is {options.image_size}: it must be at least 1")
    network = _network(options)
    check_input_size(network, channels, size)
    return inspect_layers(network, size, channels)


def _network(options: argparse.Namespace) -> "nn.Module":
    """Build the network without data, for images of the size asked for where it is made for one size."""
    import torch

    from cnnbench.models import create_model

    arguments = {"source": options.source, "in_chans": options.in_chans, "num_classes": options.num_classes}
    with torch.device("meta"):
        network = create_model(options.model, **arguments)
        accepted = signature(type(network)).parameters
        sizes = {argument: options.image_size for argument in SIZE_ARGUMENTS if argument in accepted}
        if options.image_size is not None and sizes:
            network = create_model(options.model, **arguments, **sizes)
    return network.eval()


def _row(layer: Any) -> dict[str, Any]:
    row = {"name": layer.name or "(network)", "type": layer.type, "output_shape": layer.output_shape}
    row |= {"parameters": layer.parameters, "macs": layer.macs}
    if layer.field is not None:
        row |= {"receptive_field": layer.field.size, "stride": layer.field.stride, "start": layer.field.start}
    return row


def _total(inspection: "Inspection") -> dict[str, Any]:
    shape = inspection.output_shape
    return {"name": "total", "output_shape": shape, "parameters": inspection.parameters, "macs": inspection.macs}


def _notes(inspection: "Inspection") -> list[str]:
    notes = [
        f"One image of {_shape(inspection.input_shape)}. `python -m cnnbench inspect --help` explains the columns."
    ]
    if inspection.gated:
        notes.append("Fields follow the maps, not the gates on them, which see the whole image.")
    if inspection.not_followed:
        notes.append(f"Fields are not known (-) behind {', '.join(inspection.not_followed)}.")
    return notes


def _parser() -> ListingParser:
    parser = ListingParser(
        prog="python -m cnnbench inspect",
        description="List a model's layers: shapes, parameters, multiply-adds, receptive fields.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="its name, such as resnet50")
    parser.add_argument(
        "--source", default="cnnbench", help="who wrote it: cnnbench (default), timm or torchvision", metavar="SOURCE"
    )
    parser.add_argument("--image-size", type=int, metavar="N", help="side of the image; default: the model's")
    parser.add_argument("--in-chans", type=int, metavar="N", help="channels of the image; default: the model's")
    parser.add_argument("--num-classes", type=int, metavar="N", help="classes, 0: no classifier; default: the model's")
    parser.add_format()
    return parser
