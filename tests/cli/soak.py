"""Kills runs at random moments, resumes them, and compares them with runs that nobody killed.

    make soak
    python tests/cli/soak.py --kills 20 --variants plain,ema --seed 1

Each variant is trained once undisturbed. Then it is trained again, killed by SIGKILL or SIGTERM at a random moment, and
resumed with `--ckpt_path last`, until it has been killed often enough; the last part ends by itself. The weights,
averages, optimiser states, counters of the loops and scores in the checkpoints must be the same to the last bit, and
`metrics.csv` the same to the last byte. The exit code is 1 where one is not.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from cnnbench.cli.main import main

SHORT = ("--trainer.max_epochs=3", "--trainer.limit_train_batches=10", "--trainer.log_every_n_steps=2")
AVERAGE = "--trainer.callbacks=[{class_path: EMA, init_args: {decay: 0.9}}]"
UNFREEZING = "--trainer.callbacks=[{class_path: Finetuning, init_args: {strategy: gradual}}]"

# Name -> words of the command. Each saves after three steps, so that a run is rarely where its checkpoint is.
VARIANTS = {
    "plain": (),
    "workers": ("--data.num_workers=2",),
    "mixup": ("--model.mixup=0.8", "--model.cutmix=1.0", "--model.mixup_off_epochs=1", "--model.optim.optimizer=sgd"),
    "accumulation": ("--trainer.accumulate_grad_batches=3", "--trainer.limit_train_batches=9"),
    "validations": ("--trainer.val_check_interval=4", "--trainer.limit_train_batches=12"),
    "no_validation": ("--trainer.check_val_every_n_epoch=2",),
    "ema": (AVERAGE, "--trainer.val_check_interval=4", "--trainer.limit_train_batches=12"),
    "unfreezing": (UNFREEZING, "--model.name=mini_resnet", "--data.batch_size=8", "--trainer.limit_val_batches=4"),
    "steps": ("--trainer.max_epochs=-1", "--trainer.max_steps=27"),
}


def recipe() -> Path:
    """Return the recipe of all variants."""
    return Path(__file__).parents[2] / "configs/lenet5.yaml"


def command(root: Path, *words: str) -> list[str]:
    """Return the words of a `fit` whose runs lie below `root`."""
    common = ("--trainer.default_root_dir", str(root), "--wandb=disabled", "--checkpoint_every=3")
    return ["fit", "--config", str(recipe()), *SHORT, *common, *words]


def start(words: list[str], log: Path) -> int:
    """Run a command in a child process, which need not import anything again; return its id."""
    if pid := os.fork():
        return pid
    with log.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os._exit(main(words))


def exit_code(pid: int) -> int:
    """Wait for a process; return its exit code, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def rows(root: Path) -> int:
    """Return how many lines the `metrics.csv` below `root` has."""
    with suppress(StopIteration, FileNotFoundError):
        return next(root.rglob("metrics.csv")).read_text().count("\n")
    return 0


def kill(pid: int, root: Path, number: int, draw: random.Random) -> bool:
    """Kill a process some rows and milliseconds after now; return whether it was still there."""
    end = rows(root) + draw.randint(1, 6)
    while rows(root) < end:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        time.sleep(0.001)
    time.sleep(draw.uniform(0, 0.05))
    os.kill(pid, number)
    return True


def states(path: Path) -> dict[str, Any]:
    """Return what must be equal of a checkpoint: all but where it lies."""
    checkpoint = torch.load(path, weights_only=True)
    checkpoint.pop("hyper_parameters")
    for state in checkpoint["callbacks"].values():
        for key in ("dirpath", "best_model_path", "kth_best_model_path", "best_k_models", "last_model_path"):
            state.pop(key, None)
    return checkpoint


def differences(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """Return the places where two nested values differ, bit by bit."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        return [d for key in ours for d in differences(ours[key], theirs[key], f"{place}.{key}")]
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)) and len(ours) == len(theirs):
        return [d for i, pair in enumerate(zip(ours, theirs, strict=True)) for d in differences(*pair, f"{place}.{i}")]
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return [] if ours.dtype == theirs.dtype and torch.equal(ours, theirs) else [place]
    return [] if ours == theirs else [f"{place}: {ours!r}, {theirs!r}"]


def compare(killed: Path, undisturbed: Path) -> list[str]:
    """Return what differs between the directories of two runs."""
    found = []
    for name in ("last.ckpt", "best.ckpt"):
        pair = (states(run / "checkpoints" / name) for run in (killed, undisturbed))
        found += [f"{name}{place}" for place in differences(*pair)]
    lines = [(run / "metrics.csv").read_bytes().splitlines() for run in (killed, undisturbed)]
    found += [
        f"metrics.csv {number}: {ours!r}, {theirs!r}"
        for number, (ours, theirs) in enumerate(zip_longest(*lines), start=1)
        if ours != theirs
    ]
    return found


def killed_run(name: str, kills: int, root: Path, draw: random.Random) -> int:
    """Train a variant below `root`, killed at most so many times; return how many times it was.

    Raises:
        RuntimeError: A part of the run ended as it should not.
    """
    killed, log = 0, root / "log.txt"
    while True:
        there = any(root.glob("*/*/checkpoints/[lp]*.ckpt"))
        pid = start(command(root, *VARIANTS[name], *(["--ckpt_path=last"] if there else [])), log)
        number = draw.choice((signal.SIGKILL, signal.SIGTERM))
        if killed < kills and kill(pid, root, number, draw):
            killed += 1
        code = exit_code(pid)
        if code == 0:
            return killed
        if code not in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM):
            raise RuntimeError(log.read_text())
        if not any(root.glob("*/*/checkpoints/[lp]*.ckpt")):  # killed before the first checkpoint
            shutil.rmtree(root / "lenet5", ignore_errors=True)


def soak(name: str, kills: int, root: Path, draw: random.Random) -> list[str]:
    """Train a variant undisturbed, and killed until it has been often enough; return what differs."""
    (root / "undisturbed").mkdir()
    killed_run(name, 0, root / "undisturbed", draw)
    (undisturbed,) = (root / "undisturbed").glob("*/*/")
    killed, found = 0, []
    for number in range(kills):
        (root / str(number)).mkdir()
        killed += killed_run(name, kills - killed, root / str(number), draw)
        found += compare(next((root / str(number)).glob("*/*/")), undisturbed)
        if killed == kills or found:
            break
    print(f"{name:<14}{killed} kills", end="  ", flush=True)
    return found


def cli() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each variant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    options = parser.parse_args()
    draw, wrong = random.Random(options.seed), False
    import_module("cnnbench.cli.fit")  # once, for all the processes to come
    for name in options.variants.split(","):
        with tempfile.TemporaryDirectory() as root:
            found = soak(name, options.kills, Path(root), draw)
        print("identical" if not found else f"DIFFERENT: {', '.join(found[:8])}", flush=True)
        wrong |= bool(found)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(cli())
