"""`python -m cnnbench bench-data`: measure the loading of images, stage by stage, beside torchvision's and timm's."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.cli.common.listing import Column, ListingParser, print_rows
from cnnbench.errors import UserError

if TYPE_CHECKING:
    from cnnbench.data.benchmark import Pipeline, Rates

CIFAR = "cifar"
RATIO = "ours is"
_OF_FILES = ("image_size", "color_jitter", "interpolation", "decoder")  # what images in memory have no use for


def run(args: Sequence[str] | None) -> None:
    """Measure, and print a row a stage.

    Raises:
        UserError: There is no such folder, or an option is wrong.
    """
    parser = _parser()
    options = parser.parse_args((sys.argv[1:] if args is None else list(args))[1:])
    for name in _OF_FILES if options.data == CIFAR else ("images",):
        if getattr(options, name) != parser.get_default(name):
            raise UserError(f"--{name.replace('_', '-')} does not go with --data {options.data}: leave it out")
    for name in ("batch_size", "rounds", "image_size", "images"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(options, name)}: it must be at least 1")
    import torch

    torch.set_num_threads(1)
    device = _device(options.device)
    pipelines = _of_memory(options, device) if options.data == CIFAR else _of_folder(options, device)
    rows = [row for group in pipelines for row in _measured(group, options.rounds)]
    if options.format == "table":
        print(f"images a second of processor time, median [95 % interval] of {options.rounds} interleaved rounds")
        print(f"torch {torch.__version__}, 1 thread, {device}, batches of {options.batch_size}{_decoder(options)}")
        rows = [{key: value if key == "stage" else _text(value) for key, value in row.items()} for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    print_rows(rows, [Column(name, right=name != "stage") for name in names], options.format)


def _device(name: str) -> Any:
    import torch

    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # no such device, or none of its kind here
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        known = " and ".join(["cpu", *([found.type] if found else [])])
        raise UserError(f"--device is {name!r}: this machine has {known}") from error


def _of_memory(options: Namespace, device: Any) -> list[dict[str, "Pipeline"]]:
    from cnnbench.data.pipelines import memory_loaders

    return [memory_loaders(options.images, options.batch_size, device)]


def _of_folder(options: Namespace, device: Any) -> list[dict[str, "Pipeline"]]:
    """Return the groups of pipelines: stage by stage, and loaders as a whole."""
    from cnnbench.data import FolderAugmentation, ImageFolderDataModule
    from cnnbench.data.pipelines import folder_loaders, folder_stages

    sizes = {"batch_size": options.batch_size, "image_size": options.image_size, "num_workers": 0}
    held_out = None if Path(options.data, "val").is_dir() else 0.1  # a data module that trains also validates
    varied = FolderAugmentation(color_jitter=options.color_jitter)
    how = {"interpolation": options.interpolation, "decoder": options.decoder, "augmentation": varied}
    data = ImageFolderDataModule(options.data, val_fraction=held_out, **how, **sizes)
    data.setup("fit")
    files = data.datasets["train"].files
    if len(files) < options.batch_size:
        raise UserError(f"--batch-size is {options.batch_size}: {data.root / 'train'} has {len(files)} images")
    step = max(1, len(files) // options.batch_size)
    batch = [files[place] for place in range(0, step * options.batch_size, step)]
    return [folder_stages(data, batch, device), folder_loaders(data, device)]


def _measured(pipelines: dict[str, "Pipeline"], rounds: int) -> list[dict[str, Any]]:
    """Return a row a stage, the whole, and how many times as fast ours is."""
    from cnnbench.data.benchmark import CONTROL, measure, stages_of

    rates = measure(pipelines, rounds)
    names = [*pipelines, CONTROL]
    rows = [{"stage": stage} | _row(rates, names, stage) for stage in stages_of(rates)]
    return [*rows, {"stage": RATIO} | {name: rates.ratio(name) for name in names if name != "ours"}]


def _row(rates: "Rates", names: Sequence[str], stage: str) -> dict[str, Any]:
    return {name: rates.interval(name, stage) for name in names if stage in rates.of[name]}


def _text(value: tuple[float, float, float]) -> str:
    median, low, high = value
    if median < 1000:
        return f"{median:.2f} [{low:.2f}, {high:.2f}]"
    return f"{median:,.0f} [{low:,.0f}, {high:,.0f}]"


def _decoder(options: Namespace) -> str:
    if options.data == CIFAR:
        return ""
    from cnnbench.data.decoders import installed

    return f", decoder {installed(options.decoder)}"


def _parser() -> ListingParser:
    parser = ListingParser(
        prog="python -m cnnbench bench-data",
        description="Measure the loading of images, stage by stage, beside torchvision's and timm's customary "
        "pipelines: random crop, flip, normalisation.",
        epilog="Processor time of one process, so that what else runs on the machine counts little. `loader`: an "
        "epoch of each one's own loader. `transfer` has the normalisation of ours and timm's, torchvision's is in "
        "`augment`. `ours again` is the control: its interval is what this machine resolves.",
    )
    parser.add_argument(
        "--data", required=True, help=f"a folder with train/<class>/*, or {CIFAR}: random images of its size, in memory"
    )
    parser.add_argument("--batch-size", type=int, default=128, help="images a batch; default: 128")
    parser.add_argument("--image-size", type=int, default=224, help="of images from a folder; default: 224")
    parser.add_argument("--images", type=int, default=20_000, help=f"an epoch of {CIFAR}; default: 20000")
    parser.add_argument("--rounds", type=int, default=15, help="of all pipelines, interleaved; default: 15")
    parser.add_argument("--color-jitter", type=float, default=0.0, help="of all pipelines; timm's own default is 0.4")
    parser.add_argument(
        "--interpolation",
        default="bilinear",
        help="of all pipelines: nearest, bilinear, or bicubic, which most of timm's models train with; "
        "default: bilinear",
    )
    parser.add_argument(
        "--decoder", default="auto", help="of ours: auto, simplejpeg, torchvision or pil; default: auto"
    )
    parser.add_argument("--device", default="cpu", help="where batches go, such as cuda; default: cpu")
    parser.add_format(("table", "json"))
    return parser
