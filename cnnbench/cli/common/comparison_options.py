"""The options of `compare`, and what its help says."""

import argparse
import re
from pathlib import Path

from cnnbench.cli.common.listing import ListingParser

SETTINGS = (  # the options that are attributes of `cnnbench.compare.settings.Settings`
    *("device", "precision", "channels_last", "compile", "served", "batch_size", "image_size", "num_classes"),
    *("seed", "threads", "seconds", "config", "seeds", "steps"),
)
USUAL_CHECKS = "parity,cost,speed,memory"
DESCRIPTION = """\
Compare networks with their references: prove that both compute the same function, or say where they part first; and
measure what each costs, how fast it is and how much memory it takes."""
EXPLANATION = """\
A network is a name that `python -m cnnbench models` lists, a shell pattern of such names, timm/NAME, torchvision/NAME,
or package.module:callable, where the callable takes nothing (or num_classes) and returns a torch.nn.Module.

checks:
  parity    weights exchanged, then outputs, features, gradients and buffers in float64, in evaluation and in training
            mode; equal is a relative error of at most 1e-10
  cost      parameters and multiply-adds of one image
  speed     forward, and a training step, interleaved: their time over ours with a 95 % interval, beside the same of
            the reference against its own copy, which is what this machine resolves
  memory    peak of a training step
  training  both trained by the recipe --config, from the same weights, on the same batches

examples:
  python -m cnnbench compare resnet50 convnext_tiny
  python -m cnnbench compare 'resnet*' --checks parity,cost
  python -m cnnbench compare my_package.nets:build_resnet --against timm/resnet50
  python -m cnnbench compare timm/resnet50 --against torchvision/resnet50
  python -m cnnbench compare resnet18 --checks training --config configs/resnet18.yaml --seeds 3
  python -m cnnbench compare --all --output reports/all        # stop it with Ctrl-C, and go on with the same line

Several models are compared one after the other, each in a process of its own: where one fails, the others still run.

exit code:
  0  all pairs are equal, or parity was not asked for
  1  some pair is not equal
  2  your mistake, or some pair could not be compared, whatever the others gave
  130  stopped with Ctrl-C"""


def in_options(message: str) -> str:
    """Return a message of `cnnbench.compare` as the command line says it: `image_size=32` is --image-size 32 there."""

    def option(found: re.Match[str]) -> str:
        name, _, value = found[1].partition("=")
        if name not in (*SETTINGS, "against"):
            return found[0]
        return f"--{name.replace('_', '-')} {value}".rstrip()

    return re.sub(r"`([^`]*)`", option, message)


def comparison_parser() -> ListingParser:
    """Return the parser of what stands behind `compare`."""
    parser = ListingParser(
        prog="python -m cnnbench compare",
        usage="%(prog)s [MODEL ...] [--all] [--against NETWORK] [OPTIONS]",
        description=DESCRIPTION,
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="a network, see below")
    parser.add_argument("--all", action="store_true", help="every model of ours that has a reference")
    parser.add_argument("--against", metavar="NETWORK", help="hold it against this; default: the model's reference")
    parser.add_argument(
        "--checks", default=USUAL_CHECKS, metavar="LIST", help=f"of those below, by commas; default: {USUAL_CHECKS}"
    )
    _add_measuring(parser)
    _add_training(parser)
    _add_output(parser)
    return parser


def _add_measuring(parser: ListingParser) -> None:
    group = parser.add_argument_group("how it is measured (parity always in float64)")
    group.add_argument("--device", metavar="NAME", help="cpu (default), cuda, cuda:N or mps")
    group.add_argument("--precision", metavar="NAME", help="as in Lightning: 32-true (default), bf16-mixed, ...")
    for name, text in (
        ("channels-last", "weights and images in channels-last memory format"),
        ("compile", "compile both networks with torch.compile"),
        ("served", "time each side at its best, too: channels last, folded norms, torch.compile, bf16; takes minutes"),
    ):
        group.add_argument(f"--{name}", action="store_true", default=None, help=text)
    group.add_argument("--batch-size", type=int, metavar="N", help="images at a time for speed and memory; default: 8")
    group.add_argument(
        "--seconds", type=float, metavar="N", help="to time forward for, and a training step as long again; default: 3"
    )
    group.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="side of the images in pixels; default: the network's own, for parity at most 128",
    )
    group.add_argument("--num-classes", type=int, metavar="N", help="classes of both; default: their own")
    group.add_argument("--seed", type=int, metavar="N", help="of weights, images and the order of timing; default: 0")
    group.add_argument("--threads", type=int, metavar="N", help="of torch on a CPU; default: torch's own choice")


def _add_training(parser: ListingParser) -> None:
    group = parser.add_argument_group("the training check")
    group.add_argument("--config", metavar="FILE", help="the recipe, as `fit` takes it")
    group.add_argument("--seeds", type=int, metavar="N", help="how many duels, each with a seed of its own; default: 1")
    group.add_argument("--steps", type=int, metavar="N", help="optimiser steps of a duel; default: as the recipe says")


def _add_output(parser: ListingParser) -> None:
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="report.json, report.csv and report.html; keeps finished models, so that a stopped run goes on",
    )
    parser.add_format(("table", "json"))
    group.add_argument(
        "--wandb",
        nargs="?",
        const="auto",
        default="disabled",
        choices=("auto", "online", "offline", "disabled"),
        help="log the table and the page; auto is online with a login, else offline; default: disabled",
    )
    group.add_argument(
        "--save-aligned",
        type=Path,
        metavar="FILE.safetensors",
        help="write the weights of MODEL as a state dict of what it is held against",
    )
