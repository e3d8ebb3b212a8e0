"""An annotation file in COCO's format: what it says, and what is wrong with it."""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import CocoDetection

from cnnbench.data.detection.annotations import Annotations, Objects, gathered
from cnnbench.data.detection.written_boxes import XYWH, XYXY, corners, left_out
from cnnbench.data.file_index import EXTENSIONS
from cnnbench.errors import UserError

_MOST_PIXELS = 1e10  # of an object: COCO's evaluation counts none that is larger


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_side(value: Any) -> bool:
    return _is_number(value) and value > 0 and value % 1 == 0


def _is_box(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 4 and all(map(_is_number, value))


# Field -> whether a value is right, and what it must be.
_Fields = Mapping[str, tuple[Callable[[Any], bool], str]]
_OF_CATEGORY: _Fields = {"name": (_is_text, "a name")}
_OF_IMAGE: _Fields = {
    "file_name": (_is_text, "a path"),
    "height": (_is_side, "a whole number above 0"),
    "width": (_is_side, "a whole number above 0"),
}
_OF_ANNOTATION: _Fields = {"bbox": (_is_box, XYWH.words)}
_OF_ANNOTATION_AT_WILL: _Fields = {
    "area": (lambda value: _is_number(value) and 0 <= value <= _MOST_PIXELS, "a number of pixels"),
    "iscrowd": (lambda value: isinstance(value, (int, float)) and value in (0, 1), "0 or 1"),
}


def _undated(file: Path) -> str:
    """Return what to set where a set's name has no year, or nothing."""
    name = f"{file.stem.rstrip('0123456789')}.json"
    return f"set year to '' for {name}" if name != file.name and file.with_name(name).is_file() else ""


def parsed(file: Path, folder: Path) -> CocoDetection:
    """Read an annotation file as torchvision does.

    Raises:
        UserError: It is not there, or is something else; or its folder of images is not there.
    """
    for path, is_there in ((file, file.is_file()), (folder, folder.is_dir())):
        if not is_there:
            raise UserError(
                f"no {path}: {_undated(file) or 'COCO is a folder with train2017/, val2017/ and annotations/'}"
            )
    from faster_coco_eval import init_as_pycocotools

    init_as_pycocotools()  # which torchvision reads COCO by
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it reports each step
            found = CocoDetection(folder, str(file))
        for key in ("images", "annotations", "categories"):
            found.coco.dataset[key]
        return found
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UserError(
            f"{file} is not an annotation file in COCO's format: {reason or type(error).__name__}"
        ) from error


def categories(found: CocoDetection, file: Path) -> dict[int, str]:
    """Return the names of the categories by their ids, ascending.

    Raises:
        UserError: There are none, or two of one id or of one name.
    """
    named: dict[int, str] = {}
    id_of: dict[str, int] = {}
    for category in found.coco.dataset["categories"]:
        id, name = category["id"], category.get("name", str(category["id"]))
        _check({"name": name}, _OF_CATEGORY, f"{file}: category {id}")
        if id in named:
            raise UserError(f"{file}: two categories have the id {id}: {named[id]!r} and {name!r}")
        if name in id_of:
            raise UserError(f"{file}: categories {id_of[name]} and {id} are both called {name!r}")
        named[id], id_of[name] = name, id
    if not named:
        raise UserError(f"{file} has no categories")
    return dict(sorted(named.items()))


def images(found: CocoDetection, file: Path, folder: Path) -> list[dict[str, Any]]:
    """Return what the file says of its images, in the order of their ids.

    Raises:
        UserError: It does not say what is needed, or an image is not there.
    """
    own = [found.coco.imgs[id] for id in found.ids]
    for image in own:
        _check(image, _OF_IMAGE, f"{file}: image {image['id']}")
    if len(found.coco.dataset["images"]) > len(own):
        raise UserError(f"{file} has two images of one id")
    missing = [image["file_name"] for image in own if not (folder / image["file_name"]).is_file()]
    if missing:
        raise UserError(f"{file} lists {len(missing)} images that {folder} lacks, such as {missing[0]}")
    return own


def unlisted(own: list[dict[str, Any]], file: Path, folder: Path) -> list[str]:
    """Return what a user is to know of images without annotations."""
    found = {path.name for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS}
    others = sorted(found - {image["file_name"] for image in own})
    return (
        [f"left out {len(others)} images of {folder} that {file} does not list, such as {others[0]}"] if others else []
    )


def annotations(
    found: CocoDetection, file: Path, own: list[dict[str, Any]], category_ids: list[int]
) -> tuple[Annotations, list[str]]:
    """Return the objects of the images, and what was left out.

    Args:
        found: The file as it was read.
        file: Its path.
        own: Its images.
        category_ids: Of each label.

    Raises:
        UserError: An annotation does not say what is needed, or has a box that cannot be meant.
    """
    written = found.coco.dataset["annotations"]
    place = {image["id"]: at for at, image in enumerate(own)}
    label = {id: at for at, id in enumerate(category_ids)}

    def name(row: int) -> str:
        return f"{file}: bbox of annotation {written[row].get('id')} (image {written[row]['image_id']})"

    for one in written:
        named = f"{file}: annotation {one.get('id')}"
        if one["image_id"] not in place:
            raise UserError(f"{named} is of image {one['image_id']}, which the file lacks")
        if one.get("category_id") not in label:
            raise UserError(f"{named} is of category {one.get('category_id')!r}, which the file lacks")
        named = f"{named} (image {one['image_id']})"
        _check(one, _OF_ANNOTATION, named)
        _check(one, {key: field for key, field in _OF_ANNOTATION_AT_WILL.items() if key in one}, named)
    image = np.array([place[one["image_id"]] for one in written], np.int64)
    boxes = np.array([one["bbox"] for one in written], np.float64).reshape(-1, 4)
    sizes = np.array([(of["height"], of["width"]) for of in own], np.int64).reshape(-1, 2)
    sides, has_size = corners(boxes, sizes[image], name, XYWH, XYXY)
    labels = [label[one["category_id"]] for one in written]
    crowd = [bool(one.get("iscrowd", 0)) for one in written]
    of_boxes = (sides[:, 2:] - sides[:, :2]).prod(1)
    areas = np.array([one.get("area", area) for one, area in zip(written, of_boxes, strict=True)], np.float64)
    objects = Objects.of(sides, labels, areas, crowd=crowd)
    return gathered(objects, image, sizes, has_size), left_out(has_size, name)


def _check(one: Mapping[str, Any], fields: _Fields, name: str) -> None:
    """Refuse what lacks a field, or has another value there than must be."""
    for key, (is_right, wanted) in fields.items():
        if key not in one:
            raise UserError(f"{name} has no {key}")
        if not is_right(one[key]):
            raise UserError(f"{name} has {key} {one[key]!r}: it must be {wanted}")
