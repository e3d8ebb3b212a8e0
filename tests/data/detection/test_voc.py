"""VOC as the benchmark has it: boxes from 1 and inclusive, difficult objects, sets of several years."""

import re
import shutil

import pytest
import torch
from PIL import Image
from tiny_sets import IMAGES, voc_xml
from torchvision.datasets import VOCDetection

from cnnbench.data import DetectionAugmentation, VOCDataModule
from cnnbench.data.detection.samples import targets_of, truth_of
from cnnbench.errors import UserError

OURS = {"train_sets": ("2007_train",), "val_sets": ("2007_val",), "test_sets": ("2007_test",)}


def ready(root, stage="fit", **options):
    plain = {"augmentation": DetectionAugmentation(hflip=0.0), "image_size": 64, "num_workers": 0, "batch_size": 6}
    data = VOCDataModule(str(root), **{**OURS, **plain, **options})
    data.prepare_data()
    data.setup(stage)
    return data


def test_batches_hold_what_torchvision_reads(voc):
    data = ready(voc, "test")
    theirs = VOCDetection(voc, "2007", "test")
    (batch,) = data.test_dataloader()
    assert data.image_ids("test") == [f"{id:06}" for id, *_ in IMAGES]
    assert data.category_ids == list(range(1, 21))
    assert data.file_name("test", 0) == "VOCdevkit/VOC2007/JPEGImages/000009.jpg"
    for row, (_, target) in enumerate(theirs):
        written = target["annotation"]["object"]
        sides = [[float(one["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")] for one in written]
        expected = torch.tensor(sides).view(-1, 4) - torch.tensor([1, 1, 0, 0])
        truth = truth_of(batch)[row]
        torch.testing.assert_close(truth["boxes"], expected, atol=1e-4, rtol=0)
        assert [data.class_names[label] for label in truth["labels"]] == [one["name"] for one in written]
        difficult = torch.tensor([one["difficult"] == "1" for one in written], dtype=torch.bool)
        assert torch.equal(truth["difficult"], difficult)
        assert not truth["iscrowd"].any()
        assert len(targets_of(batch)[row]["labels"]) == (~difficult).sum()
        torch.testing.assert_close(truth["area"], (expected[:, 2:] - expected[:, :2]).prod(1))


def test_sets_of_several_years_are_one(voc):
    shutil.copytree(voc / "VOCdevkit/VOC2007", voc / "VOCdevkit/VOC2012")
    data = ready(voc, train_sets=("2007_train", "2012_val"))
    assert len(data.datasets["train"]) == 2 * 4  # without the empty one, and that of a difficult object alone
    assert "VOC2012" in data.index_name("train", 7)


def edit_xml(root, name, change):
    file = root / f"VOCdevkit/VOC2007/Annotations/{name}.xml"
    file.write_text(change(file.read_text()))


def drop(root, kind, name):
    (root / f"VOCdevkit/VOC2007/{kind}/{name}").unlink()


def as_xywh(root):
    for id, width, height, objects in IMAGES:
        sizes = [(label, x1, y1, x2 - x1, y2 - y1, hard) for label, x1, y1, x2, y2, hard in objects]
        file = root / f"VOCdevkit/VOC2007/Annotations/{id:06}.xml"
        file.write_bytes(voc_xml(f"{id:06}", width, height, sizes))


WRONG = [
    (lambda root: drop(root, "Annotations", "000009.xml"), "2007_train list 1 files that are not there, such as "),
    (lambda root: drop(root, "JPEGImages", "000009.jpg"), "2007_train list 1 files that are not there, such as "),
    (lambda root: drop(root, "ImageSets/Main", "train.txt"), "set download to true, or root to the folder"),
    (lambda root: edit_xml(root, "000009", lambda text: text[:-20]), "000009.xml is not an annotation in VOC's format"),
    (lambda root: edit_xml(root, "000009", lambda text: text.replace("size", "sice")), "no 'size'"),
    (
        lambda root: edit_xml(root, "000009", lambda text: text.replace("dog", "dgo")),
        "'dgo' is not among the class_names",
    ),
    (lambda root: edit_xml(root, "000009", lambda text: text.replace("xmax", "x")), "must have the numbers xmin"),
    (lambda root: edit_xml(root, "000009", lambda text: re.sub("xmax>[0-9]+", "xmax>nan", text)), "must be finite"),
    (lambda root: edit_xml(root, "000009", lambda text: re.sub("xmax>[0-9]+", "xmax>2", text)), "its size is negative"),
    (
        lambda root: edit_xml(root, "000009", lambda text: re.sub("xmax>[0-9]+", "xmax>90", text)),
        "as [xmin, ymin, xmax, ymax] it reaches beyond its image of 60x40 pixels",
    ),
    (as_xywh, "as [x, y, width, height] it and all others do: write them as [xmin, ymin, xmax, ymax]"),
]


@pytest.mark.parametrize(("spoil", "named"), WRONG, ids=[named for _, named in WRONG])
def test_what_is_wrong_is_named(voc, spoil, named):
    spoil(voc)
    with pytest.raises(UserError) as error:
        ready(voc)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_a_class_that_is_named_twice_is_refused(voc):
    with pytest.raises(UserError, match="class_names has 'dog' twice"):
        ready(voc, class_names=("car", "dog", "person", "dog"))


@pytest.mark.parametrize("name", ["2013_train", "2012_test", "train", "2007-val"])
def test_a_set_that_voc_lacks_is_named(voc, name):
    with pytest.raises(UserError, match=f"'{name}' is no set of VOC: it must be such as 2012_trainval"):
        ready(voc, train_sets=(name,))


def test_an_image_of_another_size_than_annotated_is_named(voc):
    Image.new("RGB", (5, 6)).save(voc / "VOCdevkit/VOC2007/JPEGImages/000009.jpg")
    with pytest.raises(UserError, match=r"000009\.jpg has 5x6 pixels upright, its annotations are of 60x40"):
        list(ready(voc).val_dataloader())
