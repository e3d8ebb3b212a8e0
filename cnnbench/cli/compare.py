"""`python -m cnnbench compare MODEL...`: whether networks equal their references, and which are faster."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from cnnbench.cli.common.comparison_options import SETTINGS, comparison_parser, in_options
from cnnbench.cli.common.listing import matching
from cnnbench.errors import UserError

if TYPE_CHECKING:
    from cnnbench.compare.apart import Pair
    from cnnbench.compare.result import Comparison, Report
    from cnnbench.compare.settings import Settings

ALONE_IN_MEMORY = {"speed", "memory", "training"}  # checks that may be killed for a lack of memory
OF_TRAINING = ("config", "seeds", "steps")


def run(args: Sequence[str] | None) -> int:
    """Compare, print what was found, and write the report where one was asked for.

    Returns:
        The exit code: 0, all pairs are equal; 1, some pair is not; 2, some pair could not be compared.

    Raises:
        UserError: A word is wrong, or the only pair could not be compared.
        KeyboardInterrupt: The user stopped; the message says how to go on.
    """
    words = sys.argv[1:] if args is None else list(args)
    options = comparison_parser().parse_args(words[1:])
    _check(options)
    try:
        return _run(options, shlex.join(["python", "-m", "cnnbench", *words]))
    except UserError as error:
        raise UserError(in_options(str(error))) from error


def _run(options: argparse.Namespace, command: str) -> int:
    settings = _settings(options)
    pairs = _pairs(options)
    comparisons = _compare(pairs, settings, options)
    report = _report(comparisons, settings, command)
    _print(report, options.format)
    _keep(report, options)
    if len(report.comparisons) == 1:
        _raise_mistake(report.comparisons[0])
    if any(comparison.error is not None for comparison in report.comparisons):
        return 2
    return 0 if report.equal else 1


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot be meant, before anything heavy is imported."""
    if options.all and (options.models or options.against):
        raise UserError("--all is every model against its reference: leave out the names and --against, or --all")
    if not (options.all or options.models):
        raise UserError("name a model, such as resnet50, or give --all")
    if "training" not in options.checks.split(","):
        for name in OF_TRAINING:
            if getattr(options, name) is not None:
                raise UserError(f"--{name} is for the training check: add --checks training")
    elif options.config is not None and not Path(options.config).is_file():
        raise UserError(f"there is no recipe {options.config}")
    if options.save_aligned is not None and options.save_aligned.suffix != ".safetensors":
        raise UserError(f"--save-aligned is {options.save_aligned}, but must end in .safetensors")
    if options.output is not None:
        _check_writable("--output", options.output)
    if options.save_aligned is not None:
        _check_writable("--save-aligned", options.save_aligned.parent)


def _check_writable(option: str, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UserError(f"{option}: cannot write to {directory}: {error.strerror}") from error


def _settings(options: argparse.Namespace) -> "Settings":
    from cnnbench.compare.settings import Settings

    given = {name: value for name in SETTINGS if (value := getattr(options, name)) is not None}
    return Settings(checks=tuple(options.checks.split(",")), **given)


def _pairs(options: argparse.Namespace) -> "list[Pair]":
    from cnnbench.compare.apart import Pair
    from cnnbench.models import list_models, model_info

    names = [name for name in list_models() if model_info(name).reference is not None] if options.all else []
    for name in options.models:
        is_pattern = any(character in name for character in "*?[") and not any(mark in name for mark in ":/")
        names += matching(list_models(), name) if is_pattern else [name]
    pairs = [Pair(name, options.against) for name in dict.fromkeys(names)]
    if options.save_aligned is not None and len(pairs) > 1:
        raise UserError(f"--save-aligned writes the weights of one model, but there are {len(pairs)}")
    return pairs


def _compare(pairs: "list[Pair]", settings: "Settings", options: argparse.Namespace) -> "list[Comparison]":
    from cnnbench.cli.common.comparison_progress import ComparisonProgress
    from cnnbench.compare.session import compare_pairs

    apart = len(pairs) > 1 or not ALONE_IN_MEMORY.isdisjoint(settings.checks)
    with redirect_stdout(sys.stderr), ComparisonProgress() as progress:  # what a network prints is not the report
        found = compare_pairs(
            pairs, settings, apart=apart, output=options.output, wandb=options.wandb, watcher=progress
        )
    return [replace(one, error=one.error and in_options(one.error)) for one in found]


def _report(comparisons: "list[Comparison]", settings: "Settings", command: str) -> "Report":
    from cnnbench.compare.result import Report
    from cnnbench.compare.session import settings_environment

    return Report(settings_environment(settings), command, comparisons)


def _print(report: "Report", output_format: str) -> None:
    from cnnbench.cli.common.comparison_table import print_comparisons
    from cnnbench.compare.result import to_json

    if output_format == "json":
        print(json.dumps(to_json(report), indent=2, ensure_ascii=False))
    elif len(report.comparisons) > 1 or not _is_mistake(report.comparisons[0]):
        print_comparisons(report.comparisons)


def _keep(report: "Report", options: argparse.Namespace) -> None:
    """Write and log what was asked for; where it is goes to standard error if JSON is on standard output."""
    stream = sys.stderr if options.format == "json" else sys.stdout
    if options.output is not None:
        from cnnbench.compare.report import write_report

        for path in write_report(report, options.output):
            print(path, file=stream)
    if options.wandb != "disabled":
        from cnnbench.compare.tracking import track_report

        print(f"W&B  {track_report(report, options.wandb, options.output or Path())}", file=stream)
    if options.save_aligned is not None and report.comparisons[0].error is None:
        from cnnbench.compare.converted import save_aligned

        save_aligned(options.models[0], options.against, options.save_aligned, options.image_size, options.num_classes)
        print(options.save_aligned, file=stream)


def _is_mistake(comparison: "Comparison") -> bool:
    """Tell whether nothing could be measured at all."""
    found = (comparison.parity, comparison.cost, comparison.speed, comparison.memory, comparison.training)
    return comparison.error is not None and all(part is None for part in found)


def _raise_mistake(comparison: "Comparison") -> None:
    if _is_mistake(comparison):
        raise UserError(comparison.error)
