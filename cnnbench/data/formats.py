"""Readers of MNIST's and CIFAR's files."""

import gzip
import math
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.errors import UserError

_IDX_UINT8 = 0x08

# All that a pickled dict of numbers, texts and numpy arrays needs, by old and new names: others run code.
_NUMPY_GLOBALS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


def read_idx(path: Path) -> np.ndarray:
    """Read an array of uint8 in MNIST's idx format, gzipped if the name ends with .gz.

    Raises:
        UserError: The file is damaged, naming it.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, dims = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{dims}I", data, 4)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise _damaged(path, error) from error
    start = 4 + 4 * dims
    if zeros or kind != _IDX_UINT8:
        raise _damaged(path, "it does not begin as an idx file of bytes")
    if len(data) - start != math.prod(shape):
        raise _damaged(path, f"its head promises {math.prod(shape)} bytes, {len(data) - start} follow")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_cifar_batch(path: Path, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a batch of CIFAR's "python version".

    Args:
        path: A pickle of a dict with `data` and labels. Nothing in it is executed.
        label_key: `labels` in CIFAR-10, `fine_labels` in CIFAR-100.

    Returns:
        Images uint8 (N, 3, 32, 32) and labels (N,).

    Raises:
        UserError: The file is damaged or something else, naming it.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
        images = np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32)
        labels = np.asarray(batch[label_key], np.int64)
    except KeyError as error:
        raise _damaged(path, f"a CIFAR batch has {error}, this file has not") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise _damaged(path, error) from error
    if len(images) != len(labels):
        raise _damaged(path, f"it has {len(images)} images and {len(labels)} labels")
    return images, labels


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NUMPY_GLOBALS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a CIFAR batch does not need")


def _damaged(path: Path, why: object) -> UserError:
    return UserError(f"{path} is damaged: {why}; delete it and it is downloaded again")
