"""Several processes on a CPU (gloo) do what one does."""

import csv
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import LIMIT, free_port, run_forked

CPU = ("--trainer.accelerator", "cpu", "--wandb", "disabled")
ALONE = ("--trainer.devices", 1, "--trainer.strategy", "auto")


def together(processes, strategy="ddp"):
    """The options of a run of several processes."""
    return ("--trainer.devices", processes, "--trainer.strategy", strategy) if processes > 1 else ALONE


def rows(file):
    with file.open() as opened:
        return list(csv.DictReader(opened))


def numbers(file):
    """The last value of each column of a `metrics.csv`."""
    return {key: float(value) for row in rows(file) for key, value in row.items() if value and key != "step"}


@pytest.fixture(scope="module")
def sets(tmp_path_factory, write_mnist):
    """Roots with MNIST's files, by the number of their test images; each has 100 to train."""
    roots = {images: tmp_path_factory.mktemp(str(images)) for images in (37, 2, 1)}
    for images, root in roots.items():
        write_mnist(root, np.random.default_rng(0), test=images)
    return roots


def of(root, batch_size=8):
    """The options of MNIST-like data: 79 images to train, 21 to validate."""
    return "--data.root", root, "--data.download", "false", "--data.val_size", 21, "--data.batch_size", batch_size


@pytest.fixture(scope="module")
def trained(commands, configs, sets, tmp_path_factory):
    """A network with BatchNorm, trained by three processes; its checkpoint is of the last step."""
    runs = tmp_path_factory.mktemp("trained")
    recipe = ("--config", configs / "mnist/lenet5.yaml", "--model.name", "mini_resnet", "--data.image_size", 16)
    short = ("--trainer.max_epochs", 1, "--trainer.default_root_dir", runs)
    # the validation images are 2 batches: the third process has none of its own
    run_forked((3, ["fit", *recipe, *of(sets[37], 16), *short, *CPU, *together(3)]))
    (directory,) = (path.parent for path in runs.rglob("config.yaml"))
    return directory


# (images, batch size): whole batches deal out unevenly, are fewer than the processes; images are fewer than these
SIZES = [(37, 8), (37, 24), (37, 64), (2, 8), (1, 8)]


@pytest.fixture(scope="module")
def evaluated(trained, sets, tmp_path_factory):
    """A folder with the metrics and predictions of each size, in 1, 2 and 3 processes."""
    folder = tmp_path_factory.mktemp("evaluated")
    cases = [f"{images}:{batch_size}:{sets[images]}" for images, batch_size in SIZES]
    script = (Path(__file__).parent / "evaluate_sizes.py", trained / "checkpoints/last.ckpt", folder, *cases)
    run_forked(*((processes, script) for processes in (1, 2, 3)))
    return folder


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize(("images", "batch_size"), SIZES)
def test_evaluation_is_that_of_one_process(evaluated, images, batch_size, processes):
    alone, shared = (
        json.loads((evaluated / f"{images}-{batch_size}-{n}/metrics.json").read_text()) for n in (1, processes)
    )
    assert alone.keys() == shared.keys() == {"test/loss", "test/accuracy", "test/accuracy_top5"}
    for key, value in alone.items():
        assert shared[key] == (pytest.approx(value, rel=1e-12, abs=0) if key == "test/loss" else value), key


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize(("images", "batch_size"), SIZES)
def test_predictions_are_those_of_one_process_in_one_file(evaluated, images, batch_size, processes):
    alone, shared = (evaluated / f"{images}-{batch_size}-{n}/predictions.csv" for n in (1, processes))
    assert shared.read_text() == alone.read_text()
    assert [row["image"] for row in rows(shared)] == [str(index) for index in range(images)]


@pytest.mark.slow
def test_commands_in_processes_write_what_one_writes(trained, sets, tmp_path):
    words = ("--config", trained / "config.yaml", "--ckpt_path", trained / "checkpoints/last.ckpt", *of(sets[37]), *CPU)
    run_forked(
        *(
            (n, [name, *words, *together(n), "--trainer.default_root_dir", tmp_path / f"{name}-{n}"])
            for name in ("test", "predict")
            for n in (1, 2)
        )
    )
    predicted = [next((tmp_path / f"predict-{n}").rglob("predictions.csv")).read_text() for n in (1, 2)]
    assert predicted[0] == predicted[1]
    alone, shared = (numbers(next((tmp_path / f"test-{n}").rglob("metrics.csv"))) for n in (1, 2))
    assert shared == pytest.approx(alone, rel=1e-12, abs=0)


def test_validation_within_training_is_that_of_its_checkpoint_in_one_process(trained, command, sets):
    """Each process has normalised by its own batches: all must evaluate with the statistics that are saved."""
    words = ("--config", trained / "config.yaml", "--ckpt_path", trained / "checkpoints/last.ckpt")
    alone = numbers(command("validate", *words, *of(sets[37], 16), *ALONE).directory / "metrics.csv")
    within = numbers(trained / "metrics.csv")
    for key in ("val/loss", "val/accuracy", "val/accuracy_top5"):
        assert within[key] == pytest.approx(alone[key], rel=1e-12), key


def start(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen([sys.executable, *map(str, words)], env=environment, **options)


def printed(*running):
    """What processes print to the end of all, each of which succeeds."""
    try:
        outputs = [process.communicate(timeout=LIMIT) for process in running]
    finally:
        for process in running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it has started too
    assert not any(process.returncode for process in running), outputs
    return "".join(out for out, _ in outputs)


@pytest.fixture(scope="module")
def launched(tmp_path_factory, configs, sets):
    """What a command prints that starts two processes itself, and the root of its run."""
    root = tmp_path_factory.mktemp("launched")
    recipe = ("--config", configs / "mnist/lenet5.yaml", *of(sets[37]), "--trainer.default_root_dir", root)
    out = printed(start("-m", "cnnbench", "fit", *recipe, *CPU, *together(2), "--trainer.max_epochs", 2))
    return out, root


def test_lightning_starts_the_processes_and_one_of_them_speaks(launched):
    out, root = launched
    assert out.count("epoch 2/2") == 1
    (checkpoint,) = root.rglob("best.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] in (5, 10)  # 79 images, 2 x 8 a step


@pytest.mark.slow
def test_two_nodes_under_torchrun_train_as_two_processes_of_one(launched, tmp_path, configs, sets):
    root, port = tmp_path / "runs", free_port()
    recipe = ("--config", configs / "mnist/lenet5.yaml", *of(sets[37]), "--trainer.default_root_dir", root)
    command = ("-m", "cnnbench", "fit", *recipe, *CPU, "--trainer.devices", 1, "--trainer.strategy", "ddp")
    nodes = ("--nnodes", 2, "--nproc_per_node", 1, "--master_addr", "127.0.0.1", "--master_port", port)
    longer = ("--trainer.num_nodes", 2, "--trainer.max_epochs", 2)
    out = printed(
        *(start("-m", "torch.distributed.run", *nodes, "--node_rank", rank, *command, *longer) for rank in (0, 1))
    )
    assert out.count("epoch 2/2") == 1
    (metrics,) = root.rglob("metrics.csv")
    (theirs,) = launched[1].rglob("metrics.csv")
    assert metrics.read_text() == theirs.read_text()
