"""Images of one colour a class, and their masks."""

import numpy as np
from PIL import Image

from cnnbench.data import MaskFolderDataModule

SIZES = {"one": (60, 40), "two": (40, 60), "three": (50, 50)}
COLOURS = np.array([(90, 90, 90), (250, 40, 40), (40, 250, 40)], np.uint8)  # of the classes 0, 1 and 2
NAMES = ("grey", "red", "green")


def ids_of(width, height):
    """Quarters of the classes 0, 1, 2, and 1 again."""
    ids = np.zeros((height, width), np.uint8)
    ids[: height // 2, width // 2 :] = 1
    ids[height // 2 :, : width // 2] = 2
    ids[height // 2 :, width // 2 :] = 1
    return ids


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array) if mode is None else Image.fromarray(array, mode=mode)
    if mode == "P":
        image.putpalette([number for id in range(256) for number in (id, 255 - id, 0)])
    image.save(path)


def folder(root, **options):
    options = {"class_names": NAMES, "batch_size": 3, "num_workers": 0, "image_size": 48, **options}
    return MaskFolderDataModule(str(root), **options)


def batches(data, split, stage=None):
    data.setup(stage or split)
    data.datasets["train"] = data.datasets.get("train", data.datasets[split])
    return list(getattr(data, f"{split}_dataloader")())
