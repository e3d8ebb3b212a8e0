"""PASCAL VOC: its classes, and its sets on disk, by names such as 2012_trainval, as torchvision finds and gets them."""

from collections.abc import Iterable
from pathlib import Path

from torchvision.datasets import VOCDetection, VOCSegmentation

from cnnbench.errors import UserError

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_LISTS = {VOCDetection: "Main", VOCSegmentation: "Segmentation"}  # folder of the lists of images

Kind = type[VOCDetection] | type[VOCSegmentation]


def the_set(kind: Kind, root: Path, name: str) -> VOCDetection | VOCSegmentation:
    """Return a set: the paths of its images, and of what belongs to them.

    Args:
        kind: For detection or for segmentation.
        root: Folder that has `VOCdevkit`.
        name: Year and set, such as 2012_train.

    Raises:
        UserError: There is no such set, or it is not there.
    """
    found = _found(kind, root, name)
    if found is None:
        year, own = _year_and_set(name)
        wanted = root / "VOCdevkit" / f"VOC{year}" / "ImageSets" / _LISTS[kind] / f"{own}.txt"
        raise UserError(f"no {wanted}: set download to true, or root to the folder that has VOCdevkit")
    return found


def download_sets(kind: Kind, root: Path, names: Iterable[str]) -> None:
    """Download the sets that are not there, and verify their checksums.

    Raises:
        UserError: A set does not exist, or cannot be downloaded.
    """
    for name in dict.fromkeys(names):
        if _found(kind, root, name) is None:
            print(f"downloading VOC {name} to {root}", flush=True)
            try:
                kind(root, *_year_and_set(name), download=True)
            except (OSError, RuntimeError) as error:
                raise UserError(f"VOC {name} cannot be downloaded: {' '.join(str(error).split())}") from error


def _found(kind: Kind, root: Path, name: str) -> VOCDetection | VOCSegmentation | None:
    """Return a set, or None where its folder or its list is not there."""
    try:
        return kind(root, *_year_and_set(name))
    except (RuntimeError, FileNotFoundError):
        return None


def _year_and_set(name: str) -> tuple[str, str]:
    year, _, own = name.partition("_")
    allowed = ("train", "val", "trainval", *(["test"] if year == "2007" else []))
    if year not in map(str, range(2007, 2013)) or own not in allowed:
        raise UserError(f"{name!r} is no set of VOC: it must be such as 2012_trainval, or 2007_test")
    return year, own
