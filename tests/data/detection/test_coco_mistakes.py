"""COCO's format: what is wrong with a file, or not there, is named in a line."""

import pytest
from lightning.pytorch.trainer.states import TrainerFn
from tiny_sets import picture, ready
from torch._utils import ExceptionWrapper

from cnnbench.data import COCODataModule
from cnnbench.errors import UserError


def annotation(content, **changes):
    content["annotations"][0].update(changes)


def image(content, **changes):
    content["images"][0].update(changes)


def every_box(content, change):
    for one in content["annotations"]:
        one["bbox"] = change(*one["bbox"])


# What is wrong with an annotation file -> what is said of it.
WRONG = [
    (
        lambda c: annotation(c, bbox=[5, 8, -20, 30]),
        "is [5, 8, -20, 30]: as [x, y, width, height] its size is negative",
    ),
    (lambda c: annotation(c, bbox=[5, 8, float("nan"), 30]), "is [5, 8, nan, 30]: its numbers must be finite"),
    (lambda c: annotation(c, bbox=[70, 8, 20, 30]), "reaches beyond its image of 60x40 pixels"),
    (
        lambda c: annotation(c, bbox=[30, 10, 300, 300]),
        "bbox of annotation 900 (image 9) is [30, 10, 300, 300]: as [x, y, width, height] it reaches beyond",
    ),
    (lambda c: annotation(c, bbox=[-3, 8, 20, 30]), "is [-3, 8, 20, 30]: as [x, y, width, height] it reaches beyond"),
    (lambda c: annotation(c, bbox=[5, 8, 20, 34.5]), "is [5, 8, 20, 34.5]: as [x, y, width, height] it reaches beyond"),
    (lambda c: annotation(c, bbox=[1e308] * 4), "it reaches beyond its image of 60x40 pixels"),
    (lambda c: annotation(c, bbox=[5, 8, 20]), "(image 9) has bbox [5, 8, 20]: it must be [x, y, width, height]"),
    (lambda c: annotation(c, bbox=[5, 8, "a", 3]), "it must be [x, y, width, height]"),
    (lambda c: annotation(c, bbox=None), "has bbox None: it must be [x, y, width, height]"),
    (lambda c: c["annotations"][0].pop("bbox"), "annotation 900 (image 9) has no bbox"),
    *((lambda c, v=v: annotation(c, area=v), f"has area {v!r}: it must be a number") for v in ("x", [1], None, -1.0)),
    (
        lambda c: annotation(c, area=float("nan")),
        "annotation 900 (image 9) has area nan: it must be a number of pixels",
    ),
    (lambda c: annotation(c, iscrowd="0"), "annotation 900 (image 9) has iscrowd '0': it must be 0 or 1"),
    (lambda c: annotation(c, category_id=[1]), "'s format: unhashable type: 'list'"),
    *((lambda c, v=v: image(c, height=v), f"image 9 has height {v!r}: it must be") for v in (None, "a", 0, 4.5, -5)),
    (lambda c: image(c, width=float("nan")), "image 9 has width nan: it must be a whole number above 0"),
    *((lambda c, v=v: image(c, file_name=v), f"image 9 has file_name {v!r}: it must be a path") for v in (None, 3, "")),
    (lambda c: every_box(c, lambda x, y, w, h: [x, y, x + w, y + h]), "as [x1, y1, x2, y2] it and all others do"),
    (lambda c: every_box(c, lambda x, y, w, h: [x / 90, y / 90, w / 90, h / 90]), "all boxes are within 0..1"),
    (lambda c: annotation(c, category_id=2), "annotation 900 is of category 2, which the file lacks"),
    (lambda c: annotation(c, image_id=77), "annotation 900 is of image 77, which the file lacks"),
    (lambda c: c["images"][0].update(file_name="gone.jpg"), "lists 1 images that"),
    (lambda c: c["images"][0].pop("height"), "image 9 has no height"),
    (lambda c: c["images"].append(c["images"][0]), "has two images of one id"),
    (lambda c: c["annotations"].clear(), "none of the 6 training images has an object to train on"),
    (lambda c: (c["images"].clear(), c["annotations"].clear()), "no images in the train set"),
    (lambda c: c["categories"].pop(), "has other categories than the other sets: 18 is None there, 'dog' elsewhere"),
    (lambda c: c["categories"][0].update(name="dog"), "categories 1 and 18 are both called 'dog'"),
    (lambda c: c["categories"].append({"id": 3, "name": "van"}), "two categories have the id 3: 'car' and 'van'"),
    (lambda c: c["categories"][0].update(name=None), "category 1 has name None: it must be a name"),
    (lambda c: c.pop("annotations"), "is not an annotation file in COCO's format"),
]


@pytest.mark.parametrize(("change", "named"), WRONG, ids=[named for _, named in WRONG])
def test_wrong_annotations_are_named(coco, edit_coco, change, named):
    edit_coco(change)
    with pytest.raises(UserError) as error:
        ready(coco)
    assert named in str(error.value)
    assert "\n" not in str(error.value)
    assert str(coco) in str(error.value)


def test_an_empty_set_is_not_predicted(coco, edit_coco):
    edit_coco(lambda c: (c["images"].clear(), c["annotations"].clear()), "val")
    with pytest.raises(UserError, match="coco: no images in the val set"):
        COCODataModule(str(coco), num_workers=0).setup("predict")


def test_a_file_that_is_none_is_named(coco):
    file = coco / "annotations/instances_train2017.json"
    file.write_text("{")
    with pytest.raises(UserError, match="is not an annotation file in COCO's format"):
        ready(coco)
    file.unlink()
    with pytest.raises(UserError, match=f"no {file}"):
        ready(coco)


def test_sets_without_a_year_and_a_test_set_that_is_not_there_are_named(coco):
    for path in (*coco.glob("*2017"), *coco.glob("annotations/*2017.json")):
        path.rename(path.with_name(path.name.replace("2017", "")))
    with pytest.raises(UserError, match=r"set year to .. for instances_train\.json"):
        ready(coco)
    data = ready(coco, year="")
    assert len(data.datasets["train"]) == 4
    with pytest.raises(UserError, match="coco has no test set; validate evaluates on the one of validation"):
        data.setup(TrainerFn.TESTING)


def test_an_image_of_another_size_than_annotated_is_named(coco):
    picture(coco / "val2017/000000000004.jpg", 60, 40, [])
    with pytest.raises(UserError) as raised:
        next(iter(ready(coco).val_dataloader()))
    said = f"{coco}/val2017/000000000004.jpg has 60x40 pixels upright, its annotations are of 40x60"
    assert str(raised.value) == said
    from_worker = ExceptionWrapper((raised.type, raised.value, raised.tb), "in DataLoader worker process 0")
    with pytest.raises(UserError) as raised:
        from_worker.reraise()
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"letterbox": True, "max_size": 90}, "max_size does not go with letterbox"),
        ({"max_size": 10}, "max_size is 10: it must be at least image_size, 64"),
        ({"predict_root": "nowhere"}, "nothing to predict: nowhere is not a folder"),
    ],
)
def test_wrong_options_are_named(coco, options, named):
    with pytest.raises(UserError) as error:
        ready(coco, **options).setup("predict")
    assert named in str(error.value)
