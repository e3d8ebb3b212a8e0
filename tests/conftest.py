"""Data sets in their real formats, written by the tests, and the command line run in process."""

import csv
import gzip
import pickle
import re
import struct
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnbench.cli.main import main

REPOSITORY = Path(__file__).parents[1]


@dataclass
class Run:
    """What a command printed, and the directory of its run."""

    out: str
    err: str
    directory: Path | None

    @property
    def config(self):
        return self.directory / "config.yaml"

    @property
    def best(self):
        return self.directory / "checkpoints/best.ckpt"

    @property
    def metrics(self):
        """The rows of `metrics.csv`, without what is empty in each."""
        with (self.directory / "metrics.csv").open() as file:
            return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]

    def curve(self, name):
        return [row[name] for row in self.metrics if name in row]


@pytest.fixture(scope="session")
def commands():
    """A function that returns one that runs `python -m cnnbench` in process, its runs below a root, without W&B."""

    def below(root):
        def run(name, *words):
            before = set(root.rglob("config.yaml"))
            options = ("--trainer.default_root_dir", root, "--wandb", "disabled")
            with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
                code = main([name, *map(str, (*words, *options))])
            assert code == 0, err.getvalue()
            new = set(root.rglob("config.yaml")) - before
            continued = re.search(r"^run +(\S+)", out.getvalue(), re.MULTILINE)
            directory = new.pop().parent if new else continued and Path(continued[1])
            return Run(out.getvalue(), err.getvalue(), directory)

        return run

    return below


@pytest.fixture
def command(commands, tmp_path):
    """A function that runs `python -m cnnbench` in process, its runs below `tmp_path`, without W&B."""
    return commands(tmp_path / "runs")


@pytest.fixture(scope="session")
def configs():
    """The folder of the recipes."""
    return REPOSITORY / "configs"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def write_idx(path, array):
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wb") as file:
        file.write(head + array.tobytes())


@pytest.fixture(scope="session")
def write_mnist():
    """A function that writes MNIST's files, gzipped, below a root, and returns what is in them."""

    def write(root, rng, train=100, test=37):
        arrays = {}
        for part, n in (("train", train), ("t10k", test)):
            arrays[part] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), np.arange(n, dtype=np.uint8) % 10
            write_idx(root / "MNIST/raw" / f"{part}-images-idx3-ubyte.gz", arrays[part][0])
            write_idx(root / "MNIST/raw" / f"{part}-labels-idx1-ubyte.gz", arrays[part][1])
        return arrays

    return write


@pytest.fixture
def mnist(tmp_path, rng, write_mnist):
    """A root with MNIST's files, gzipped, and what is in them."""
    return tmp_path, write_mnist(tmp_path, rng)


def write_cifar(folder, name, images, **labels):
    folder.mkdir(parents=True, exist_ok=True)
    batch = {
        b"data": images.reshape(len(images), -1),
        b"batch_label": b"some",
        b"filenames": [b"x"] * len(images),
    }
    batch |= {key.encode(): value.tolist() for key, value in labels.items()}
    (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


@pytest.fixture
def cifar10(tmp_path, rng):
    """A root with CIFAR-10's batches, 20 training images each, and all training images and labels."""
    images = rng.integers(0, 256, (120, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(120) % 10
    for n in range(5):
        part = slice(20 * n, 20 * n + 20)
        write_cifar(tmp_path / "cifar-10-batches-py", f"data_batch_{n + 1}", images[part], labels=labels[part])
    write_cifar(tmp_path / "cifar-10-batches-py", "test_batch", images[100:], labels=labels[100:])
    return tmp_path, images, labels


@pytest.fixture
def cifar100(tmp_path, rng):
    images = rng.integers(0, 256, (200, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(200) % 100
    for name in ("train", "test"):
        write_cifar(tmp_path / "cifar-100-python", name, images, fine_labels=labels, coarse_labels=np.zeros(200, int))
    return tmp_path, images, labels


@pytest.fixture
def write_photo(rng):
    """A function that writes a smooth colour picture, which survives JPEG, and returns it."""

    def write(path, width=80, height=60, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        picture = coarse.resize((width, height), Image.Resampling.BICUBIC)
        picture.save(path, **options)
        return picture

    return write


@pytest.fixture
def photos(tmp_path, write_photo):
    """An ImageNet-style root: cat and dog, 6 a class to train, 3 to validate."""
    for split, n in (("train", 6), ("val", 3)):
        for name in ("cat", "dog"):
            for i in range(n):
                write_photo(tmp_path / split / name / f"{i}.{'jpg' if i % 2 else 'png'}", 80 + i, 60 + 3 * i)
    return tmp_path
