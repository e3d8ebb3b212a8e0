"""PASCAL VOC, and other sets in its format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from torchvision.datasets import VOCDetection

from cnnbench.data.detection.annotations import Annotations, Objects, gathered
from cnnbench.data.detection.augment import DetectionAugmentation
from cnnbench.data.detection.files import FLIPPED, DetectionFilesDataModule, Split
from cnnbench.data.detection.written_boxes import VOC_CORNERS, XYWH, corners, left_out
from cnnbench.data.voc_sets import CLASSES, download_sets, the_set
from cnnbench.errors import UserError, did_you_mean

_SIDES = ("xmin", "ymin", "xmax", "ymax")


class VOCDataModule(DetectionFilesDataModule):
    """`root/VOCdevkit/VOC2007/{JPEGImages,Annotations,ImageSets/Main}` and the same of other years.

    From M. Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010,
    http://host.robots.ox.ac.uk/pascal/VOC; also for a set of one's own in this format. As the benchmark has it, objects
    that are marked as difficult are not trained on, and detections that overlap one enough to be it do not count.

    Args:
        root: Folder of the data.
        download: Whether torchvision downloads the sets that are not there, and verifies their checksums.
        train_sets: Year and name of each set of the training images.
        val_sets: The same of validation; the published figures are of training on both years' `trainval`.
        test_sets: The same of the test.
        class_names: Names of the classes, in the order of the labels; by default VOC's 20.
        predict_root: Images to predict, any below this folder; None: those of the test set.
        batch_size: Images a process and step.
        image_size: Pixels of the shorter side; with `letterbox`, of the longer one.
        max_size: Most pixels of the longer side; None: 5/3 of `image_size`.
        letterbox: Bring the longer side to `image_size`, and pad to a square: all batches are of one shape.
        num_workers: Processes that decode images; None: one a processor core, at most 8.
        in_chans: 3 for RGB images, 1 for grey.
        augmentation: How training images vary; by default a horizontal flip.
        empty_images: Train on images without objects, too.
        mean: Of pixels in 0..1; None: the model's, else ImageNet's.
        std: The same.
        decoder: `auto` is the fastest that is installed, of simplejpeg, torchvision and pil.
        on_error: What to do with a file that is not a whole image: `raise`, or `skip` it; what was skipped is counted
            and listed at the end.
    """

    def __init__(
        self,
        root: str = "data/voc",
        download: bool = False,
        train_sets: tuple[str, ...] = ("2007_train", "2012_train"),
        val_sets: tuple[str, ...] = ("2007_val", "2012_val"),
        test_sets: tuple[str, ...] = ("2007_test",),
        class_names: tuple[str, ...] = CLASSES,
        predict_root: str | None = None,
        batch_size: int = 2,
        image_size: int = 600,
        max_size: int | None = None,
        letterbox: bool = False,
        num_workers: int | None = None,
        in_chans: int = 3,
        augmentation: DetectionAugmentation = FLIPPED,
        empty_images: bool = False,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        decoder: str = "auto",
        on_error: str = "raise",
    ) -> None:
        super().__init__(
            *(root, predict_root, batch_size, image_size, max_size, letterbox, num_workers, in_chans, augmentation),
            *(empty_images, mean, std, decoder, on_error),
        )
        self.download = download
        self.sets = {"train": tuple(train_sets), "val": tuple(val_sets), "test": tuple(test_sets)}
        if twice := [name for place, name in enumerate(class_names) if name in class_names[:place]]:
            raise UserError(f"class_names has {twice[0]!r} twice")
        self.class_names = tuple(class_names)

    @property
    def has_test(self) -> bool:
        """Whether there are test sets."""
        return bool(self.sets["test"])

    def prepare_data(self) -> None:
        """Download what is not there, if that is asked for."""
        if self.download:
            download_sets(VOCDetection, self.root, [name for names in self.sets.values() for name in names])

    def read(self, split: str) -> Split:
        """Read the lists of the split's sets, and the annotations of each image in them."""
        files, annotations = [], []
        for name in self.sets[split]:
            found = the_set(VOCDetection, self.root, name)
            files += map(Path, found.images)
            annotations += map(Path, found.annotations)
        missing = [path for path in (*annotations, *files) if not path.is_file()]
        if missing:
            sets = " and ".join(self.sets[split])
            raise UserError(f"{self.root}: {sets} list {len(missing)} files that are not there, such as {missing[0]}")
        return Split(files, self.root, [path.stem for path in files], *_annotations(annotations, self.class_names))


def _annotations(files: Sequence[Path], class_names: Sequence[str]) -> tuple[Annotations, list[str]]:
    """Read the objects of each image from its own file; say what was left out."""
    sizes, written, owner = [], [], []
    for place, file in enumerate(files):
        size, objects = _read(file)
        sizes.append(size)
        written += objects
        owner += [place] * len(objects)
    image = np.array(owner, np.int64)
    label = {name: at for at, name in enumerate(class_names)}
    for place, one in zip(owner, written, strict=True):
        if one["name"] not in label:
            hint = did_you_mean(str(one["name"]), class_names)
            raise UserError(f"{files[place]}: {one['name']!r} is not among the class_names{hint}")
    boxes = np.array([_box(files[place], one) for place, one in zip(owner, written, strict=True)]).reshape(-1, 4)
    shapes = np.array(sizes, np.int64).reshape(-1, 2)

    def name(row: int) -> str:
        return f"{files[owner[row]]}: bndbox of {written[row]['name']!r}"

    found, has_size = corners(boxes, shapes[image], name, VOC_CORNERS, XYWH)
    labels = [label[one["name"]] for one in written]
    difficult = [one.get("difficult") == "1" for one in written]
    areas = (found[:, 2:] - found[:, :2]).prod(1)
    own = Objects.of(found, labels, areas, difficult=difficult)
    return gathered(own, image, shapes, has_size), left_out(has_size, name)


def _read(file: Path) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Return an image's height and width, and its objects."""
    try:
        parsed = VOCDetection.parse_voc_xml(ElementTree.parse(file).getroot())["annotation"]
        size = int(parsed["size"]["height"]), int(parsed["size"]["width"])
        objects = parsed.get("object", [])
        if any("name" not in one or "bndbox" not in one for one in objects):
            raise ValueError("an object has no name or no bndbox")
    except (ElementTree.ParseError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{file} is not an annotation in VOC's format: {reason}") from error
    return size, objects


def _box(file: Path, one: dict[str, Any]) -> list[float]:
    try:
        return [float(one["bndbox"][side]) for side in _SIDES]
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{file}: bndbox of {one['name']!r} must have the numbers {', '.join(_SIDES)}") from error
