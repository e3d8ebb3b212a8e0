"""`python -m cnnbench models`: list the models there are."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from cnnbench.cli.common.listing import Column, ListingParser, matching, print_rows
from cnnbench.errors import UserError, did_you_mean, either


def _giga(macs: int) -> str:
    return f"{macs / 1e9:.3f}" if macs >= 5e6 else f"{macs / 1e9:.5f}"


COLUMNS = (
    Column("name"),
    Column("source"),
    Column("family"),
    Column("year", right=True),
    Column("parameters", right=True, show="{:,}".format),
    Column("macs", "GMACs", right=True, show=_giga),
    Column("input_size", "input", right=True, show=lambda size: "x".join(map(str, size))),
    Column("top1", "top-1 %", right=True, show="{:.2f}".format),
    Column("reference"),
    Column("paper", gives_way=True),
)
SORTABLE = ("name", "family", "year", "parameters", "macs", "top1")


def run(args: Sequence[str] | None) -> None:
    """Print a row a model.

    Raises:
        UserError: No model matches.
    """
    options = _parser().parse_args((sys.argv[1:] if args is None else list(args))[1:])
    names = _names(options)
    rows = _rows(names, options.source)
    if options.sort != "name" or options.descending:
        known = [row for row in rows if row.get(options.sort) is not None]
        unknown = [row for row in rows if row.get(options.sort) is None]
        rows = sorted(known, key=lambda row: row[options.sort], reverse=options.descending) + unknown
    print_rows(rows, COLUMNS, options.format)


def _names(options: Namespace) -> list[str]:
    import timm
    import torchvision

    from cnnbench.models import list_models, model_info

    if options.source == "cnnbench":
        names = list_models()
        families = list(dict.fromkeys(model_info(name).architecture for name in names))
        if options.family and options.family not in families:
            raise UserError(f"unknown family {options.family!r}{did_you_mean(options.family, families)}")
        chosen = [name for name in names if options.family in (None, model_info(name).architecture)]
        return matching(chosen, options.pattern)
    if options.pattern == "*":
        raise UserError(f"{options.source} has too many models to list all: give a pattern, such as 'resnet*'")
    if options.family:
        raise UserError("--family is for our models only")
    if options.source == "timm":
        return matching(timm.list_models(exclude_filters="cnnbench_*"), options.pattern)
    return matching(torchvision.models.list_models(module=torchvision.models), options.pattern)


def _rows(names: Sequence[str], source: str) -> list[dict[str, Any]]:
    from rich.console import Console

    with Console(stderr=True).status(f"listing {len(names)} models"):  # those that must be counted take 0.3 s each
        return [_row(name, source) for name in names]


def _row(name: str, source: str) -> dict[str, Any]:
    from cnnbench.cli.common.costs import cost
    from cnnbench.models import model_info, pretrained_cfg

    row = {"name": name, "source": source, "input_size": tuple(pretrained_cfg(name, source)["input_size"])}
    row |= vars(cost(name, source))
    if source != "cnnbench":
        return row
    info = model_info(name)
    row |= {"family": info.architecture, "year": info.paper.year, "paper": info.paper.title, "top1": info.top1}
    return row | {"reference": _reference(info.reference)}


def _reference(reference: Any) -> str | None:
    if reference is None or isinstance(reference, str):
        return reference
    return f"{reference.__module__}:{reference.__name__}"


def _parser() -> ListingParser:
    parser = ListingParser(
        prog="python -m cnnbench models",
        description="List the models there are, ours or, by a pattern, those of timm and torchvision.",
        epilog="GMACs: multiply-adds of one image of the input size. top-1: ImageNet-1k accuracy of the published "
        "weights, as their authors measured it.",
    )
    parser.add_argument(
        "pattern", nargs="?", default="*", help="shell pattern of names, such as 'resnet*'; default: all"
    )
    sources = ("cnnbench", "timm", "torchvision")
    parser.add_argument("--source", choices=sources, default="cnnbench", help="who wrote them; default: cnnbench")
    parser.add_argument("--family", help="those of one family, such as resnet")
    parser.add_argument("--sort", choices=SORTABLE, default="name", help=f"by {either(SORTABLE)}; default: name")
    parser.add_argument("--descending", action="store_true", help="largest first")
    parser.add_format()
    return parser
