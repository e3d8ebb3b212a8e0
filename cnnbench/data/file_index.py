"""The image files below a folder: found once, and remembered for as long as no directory of it changes."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from cnnbench.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
WORTH_REMEMBERING = 5_000  # files: fewer are found in less than a tenth of a second
_SETTLED = 2.0  # seconds: a directory that changed just now may change again under the same time stamp
_FORMAT = 1


class ImageFiles(Sequence[Path]):
    """Paths of images, held as bytes: worker processes share them, where a list of a million paths is copied to each.

    Args:
        folder: What the paths begin with.
        directories: Below the folder, relative to it.
        directory: int32 (N,), the directory of each file.
        names: The files' own names.
    """

    def __init__(self, folder: Path, directories: Sequence[str], directory: np.ndarray, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.folder = folder
        self.directories = tuple(directories)
        self.directory = directory
        self._ends = np.cumsum([0, *map(len, encoded)])
        self._names = np.frombuffer(b"".join(encoded), np.uint8)
        self._chosen = np.arange(len(directory))

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Path:
        at = self._chosen[index]
        name = self._names[self._ends[at] : self._ends[at + 1]].tobytes()
        return Path(self.folder, self.directories[self.directory[at]], os.fsdecode(name))

    def subset(self, indices: np.ndarray) -> "ImageFiles":
        """Return the files at these places, in this order."""
        part = object.__new__(ImageFiles)
        vars(part).update(vars(self), _chosen=self._chosen[indices])
        return part

    def first_directory(self) -> np.ndarray:
        """Return for each file the name of the folder's own directory that it lies in, "" for those in none: (N,)."""
        first = [name.partition(os.sep)[0] for name in self.directories]
        return np.array(first, dtype=object)[self.directory[self._chosen]]


def find_classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in `folder`, sorted: the classes of an ImageNet-style folder."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."))


def find_images(folder: Path) -> ImageFiles:
    """Return all images below `folder`, directory by directory, sorted.

    Thousands of files are remembered under `$XDG_CACHE_HOME/cnnbench` (`~/.cache/cnnbench`), and found anew once a
    file or a directory was added, removed or renamed, which the time stamps of the directories tell.

    Raises:
        UserError: There is none.
    """
    remembered = _cache_file(folder)
    found = _recall(remembered, folder)
    if found is None:
        began = time.time()
        found = _search(folder)
        if sum(map(len, found["names"])) >= WORTH_REMEMBERING and _was_settled(found, began):
            _remember(remembered, found)
    counts = [len(names) for names in found["names"]]
    if not sum(counts):
        raise UserError(f"no images below {folder} (looked for {', '.join(EXTENSIONS)})")
    directory = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return ImageFiles(folder, found["directories"], directory, (name for names in found["names"] for name in names))


def _search(folder: Path) -> dict[str, list]:
    """Return the directories, their time stamps in nanoseconds, and the images in each."""
    found = []
    for parent, inner, names in os.walk(folder, followlinks=True):
        inner[:] = [name for name in inner if name[0] != "."]
        stamp = Path(parent).stat().st_mtime_ns
        images = sorted(name for name in names if name.lower().endswith(EXTENSIONS) and name[0] != ".")
        relative = os.path.relpath(parent, folder)
        found.append(("" if relative == os.curdir else relative, stamp, images))
    found.sort(key=lambda entry: Path(entry[0]).parts)
    directories, stamps, names = zip(*found, strict=True) if found else ((), (), ())
    return {"directories": list(directories), "stamps": list(stamps), "names": list(names)}


def _was_settled(found: dict[str, list], began: float) -> bool:
    """Return whether no directory has changed since the search began, in seconds, or shortly before."""
    return max(found["stamps"]) < (began - _SETTLED) * 1e9


def _cache_file(folder: Path) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:24]
    return home / "cnnbench" / "folders" / f"{key}.json"


def _remember(file: Path, found: dict[str, list]) -> None:
    """Write beside and rename, so that no process reads half an index."""
    temporary = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"format": _FORMAT} | found))
        temporary.replace(file)
    except OSError:  # no home, or a full one: the folder is searched again the next time
        with suppress(OSError):
            temporary.unlink()


def _recall(file: Path, folder: Path) -> dict[str, list] | None:
    """Return what was found before, unless a directory has changed since."""
    try:
        found = json.loads(file.read_text())
        stamps = [(folder / name).stat().st_mtime_ns for name in found["directories"]]
    except (OSError, ValueError, KeyError, TypeError):  # never searched, or the index is not whole, or a folder is gone
        return None
    return found if found.get("format") == _FORMAT and stamps == found["stamps"] else None
