"""Finds the command and runs it. Nothing heavy is imported before a command needs it."""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from cnnbench import __version__
from cnnbench.cli.common.messages import say
from cnnbench.errors import StoppedError, ToldElsewhereError, UserError, did_you_mean

# Command -> what it does. Each is the module `cnnbench.cli.<command>`, with underscores for hyphens, and its function
# `run(args)`, which may return an exit code.
COMMANDS = {
    "fit": "train a model by a recipe, and keep its best and last checkpoint",
    "validate": "evaluate a checkpoint on the validation set",
    "test": "evaluate a checkpoint on the test set",
    "predict": "write the classes or the boxes that a checkpoint sees in images",
    "models": "list the models there are",
    "inspect": "list a model's layers: shapes, parameters, multiply-adds, receptive fields",
    "bench-data": "measure the loading of images, stage by stage, beside torchvision's and timm's",
    "compare": "prove that networks equal their references, and measure which is faster",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Arguments after the program's name; None: those of the process, which stay as they are, since the
            processes that Lightning starts for DDP run them again.

    Returns:
        The exit code: 0; 1 where `compare` found a pair that is not equal; 2 after a mistake of the user, which is
        printed in a line on standard error, with `CNNBENCH_DEBUG=1` in the environment below its traceback; 130 after
        Ctrl-C, 143 after SIGTERM; 141 where the reader of a pipe left, as after `| head`.
    """
    words = sys.argv[1:] if args is None else list(args)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"cnnbench {__version__}")
        return 0
    try:
        if words[0] not in COMMANDS:
            raise UserError(f"unknown command {words[0]!r}{did_you_mean(words[0], COMMANDS)}")
        code = import_module(f"cnnbench.cli.{words[0].replace('-', '_')}").run(args)
        sys.stdout.flush()
    except UserError as error:
        if os.environ.get("CNNBENCH_DEBUG") == "1":
            traceback.print_exc()
        if not isinstance(error, ToldElsewhereError):
            say(f"cnnbench: error: {error}")
        return 2
    except (KeyboardInterrupt, StoppedError) as stop:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # one process speaks for all
            print(f"cnnbench: {str(stop) or 'stopped'}", file=sys.stderr)  # never broken: it may hold a command
        return stop.code if isinstance(stop, StoppedError) else 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 141
    return code or 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return f"""\
usage: python -m cnnbench COMMAND [OPTIONS]

Hand-written vision architectures beside trusted references, trained and compared head to head.

commands:
{commands}

  python -m cnnbench COMMAND --help              the options of a command
  python -m cnnbench fit --config configs/convnext_t.yaml"""
