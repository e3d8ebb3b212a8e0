"""COCO as the benchmark has it: crowds, empty images, ids with gaps, images of unequal size."""

import json

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from faster_coco_eval import COCO
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from tiny_sets import IMAGES, coco_json, picture, ready

from cnnbench.data import COCODataModule, DetectionAugmentation, DetectionFolderDataModule
from cnnbench.data.base import counted
from cnnbench.data.detection.samples import in_original_pixels, targets_of, truth_of
from cnnbench.errors import UserError

EVERY = DetectionAugmentation(mosaic=0.5, color_jitter=0.3, zoom_out=0.3, iou_crop=0.3, scale=(0.7, 1.3))


@pytest.fixture(autouse=True)
def run_seed(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")


def test_training_is_on_images_with_objects_and_evaluation_on_all(coco):
    data = ready(coco)
    assert data.image_ids("train") == [4, 5, 9, 20]
    assert data.image_ids("val") == sorted(id for id, *_ in IMAGES)
    assert (data.class_names, data.category_ids) == (("person", "car", "dog"), [1, 3, 18])
    assert ready(coco, empty_images=True).image_ids("train") == data.image_ids("val")
    assert not data.has_test
    assert data.index_name("val", 0) == str(coco / "val2017/000000000004.jpg")
    assert data.file_name("val", 0) == "000000000004.jpg"


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_read_is_skipped_on_request(coco, workers):
    """Also where another image would share its canvas with it; a batch of nothing else counts nowhere."""
    for split in ("train", "val"):
        (coco / f"{split}2017/000000000004.jpg").write_bytes(b"no")
    options = {"on_error": "skip", "num_workers": workers, "batch_size": 1}
    data = ready(coco, **options, augmentation=DetectionAugmentation(mosaic=1.0))
    evaluated = list(data.val_dataloader())
    assert [index for batch in evaluated for index in batch["index"][counted(batch)].tolist()] == [1, 2, 3, 4, 5]
    assert evaluated[0]["skipped"].tolist() == [0]
    data = ready(coco, **options | {"batch_size": 4}, augmentation=DetectionAugmentation(mosaic=1.0))
    for epoch in range(5):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        (batch,) = loader
        assert sorted(batch["index"].tolist()) == [1, 2, 3]
        assert batch["skipped"].tolist() == [0]


@pytest.mark.parametrize("first_id", [0, 1])
def test_classes_are_numbered_by_ids_for_published_detectors(coco, first_id):
    data, plain = ready(coco, first_id=first_id), ready(coco)
    assert data.num_classes == 19 - first_id  # the last id is 18
    assert [data.class_names[id - first_id] for id in (1, 3, 18)] == ["person", "car", "dog"]
    assert data.class_names[2 - first_id] == "unused 2"
    for own, others in zip(data.val_dataloader(), plain.val_dataloader(), strict=True):
        ids = [data.category_ids[label] for label in own["label"][own["label"] >= 0]]
        assert ids == [plain.category_ids[label] for label in others["label"][others["label"] >= 0]]
    with pytest.raises(UserError, match="has a category of id 1, before first_id, 2"):
        ready(coco, first_id=2)


def test_batches_hold_what_the_file_says(coco):
    """Judged by COCO's own reader, and by PIL and torchvision for the pixels."""
    data = ready(coco, batch_size=3)
    theirs = COCO(str(coco / "annotations/instances_val2017.json"))
    ids = data.image_ids("val")
    seen = []
    for raw in data.val_dataloader():
        batch = data.on_after_batch_transfer(dict(raw), 0)
        assert batch["image"].shape[2] % 32 == batch["image"].shape[3] % 32 == 0
        truths, targets = truth_of(batch), targets_of(batch)
        back = in_original_pixels(targets, batch)
        for row, index in enumerate(batch["index"].tolist()):
            seen.append(ids[index])
            written = theirs.loadAnns(theirs.getAnnIds(ids[index]))
            x, y, w, h = np.array([one["bbox"] for one in written], np.float32).reshape(-1, 4).T
            expected = torch.from_numpy(np.stack([x, y, x + w, y + h], 1))
            torch.testing.assert_close(truths[row]["boxes"], expected, atol=1e-4, rtol=0)
            categories = [data.category_ids[label] for label in truths[row]["labels"]]
            assert categories == [one["category_id"] for one in written]
            crowd = torch.tensor([one["iscrowd"] for one in written], dtype=torch.int64)
            assert torch.equal(truths[row]["iscrowd"], crowd)
            assert truths[row]["area"].tolist() == [one["area"] for one in written]
            torch.testing.assert_close(back[row]["boxes"], expected[crowd == 0], atol=1e-4, rtol=0)

            height, width = batch["size"][row].tolist()
            info = theirs.loadImgs(ids[index])[0]
            assert batch["original_size"][row].tolist() == [info["height"], info["width"]]
            if min(height, width) == 64:
                assert max(height, width) <= round(64 * 5 / 3)
            else:
                assert max(height, width) == round(64 * 5 / 3)
            pixels = F.pil_to_tensor(Image.open(data.index_name("val", index)).convert("RGB"))
            pixels = F.normalize(F.resize(pixels, [height, width]) / 255, data.mean, data.std)
            torch.testing.assert_close(batch["image"][row, :, :height, :width], pixels, atol=1e-4, rtol=0)
            assert not batch["image"][row][:, ~batch["mask"][row]].any()
            assert batch["mask"][row].sum() == height * width
    assert seen == ids


def test_sizes_of_boxes_are_those_of_the_batches(coco):
    data = ready(coco, augmentation=DetectionAugmentation(hflip=0.0), batch_size=4)
    (batch,) = data.train_dataloader()
    boxes = torch.cat([targets["boxes"] for targets in targets_of(batch)])
    expected, found = (boxes[:, 2:] - boxes[:, :2]).tolist(), data.box_sizes().tolist()
    torch.testing.assert_close(torch.tensor(sorted(found)), torch.tensor(sorted(expected)), atol=1e-3, rtol=0)


def test_a_letterbox_gives_batches_of_one_shape(coco):
    data = ready(coco, image_size=70, letterbox=True, batch_size=1)
    for batch in data.val_dataloader():
        assert batch["image"].shape == (1, 3, 96, 96)
        assert batch["size"].max() == 70


def test_images_are_varied_alike_whatever_the_batch_and_the_workers(coco):
    def delivered(**options):
        data = ready(coco, augmentation=EVERY, letterbox=True, **options)
        loader, found = data.train_dataloader(), {}
        for epoch in range(3):
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                batch = data.on_after_batch_transfer(batch, 0)
                for row, (index, targets) in enumerate(zip(batch["index"].tolist(), targets_of(batch), strict=True)):
                    found[epoch, index] = (batch["image"][row], targets["boxes"], targets["labels"])
        return found

    reference = delivered(batch_size=4)
    assert len(reference) == 12
    for options in ({"batch_size": 2, "num_workers": 2}, {"batch_size": 1}):
        got = delivered(**options)
        assert got.keys() == reference.keys()
        assert all(torch.equal(a, b) for key in got for a, b in zip(got[key], reference[key], strict=True))


@pytest.mark.parametrize(("width", "height", "size"), [(8, 8, (64, 64)), (8000, 6000, (48, 64)), (2000, 8, (1, 64))])
def test_images_of_any_size_are_right(tmp_path, width, height, size):
    box = (width // 4, height // 4, width // 2, height // 2)
    images = [(1, width, height, [("car", *box, False)])]
    for split in ("train", "val"):
        picture(tmp_path / f"{split}/{1:012}.jpg", width, height, [("car", *box)])
        file = tmp_path / f"annotations/instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(coco_json(images)))
    plain = DetectionAugmentation(hflip=0.0)
    data = ready(tmp_path, year="", letterbox=True, batch_size=1, augmentation=plain)
    (trained,), (judged,) = data.train_dataloader(), data.val_dataloader()
    assert judged["original_size"].tolist() == [[height, width]]
    torch.testing.assert_close(truth_of(judged)[0]["boxes"], torch.tensor([box]).float(), atol=0.01, rtol=1e-5)
    expected = torch.tensor([box]) * torch.tensor([64 / width, size[0] / height] * 2)
    for batch in (trained, judged):
        assert batch["size"].tolist() == [list(size)]
        if batch is judged or size[0] > 1:
            torch.testing.assert_close(targets_of(batch)[0]["boxes"], expected, atol=0.01, rtol=0)
    if size[0] > 1:
        x1, y1, x2, y2 = expected[0].int().tolist()
        inside = judged["image"][0, :, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].float().flatten(1).mean(1)
        torch.testing.assert_close(inside, torch.tensor([40.0, 250, 40]), atol=16, rtol=0)


def test_own_images_are_predicted(coco, tmp_path):
    picture(tmp_path / "images/a/one.png", 40, 20, [])
    picture(tmp_path / "images/two.jpg", 20, 40, [])
    own = DetectionFolderDataModule(str(tmp_path / "images"), class_names=("x",), image_size=32, num_workers=0)
    own.setup("predict")
    (batch,) = own.predict_dataloader()
    assert sorted(batch["size"].tolist()) == [[26, 53], [53, 26]]
    assert sorted(own.image_ids("predict")) == ["a/one.png", "two.jpg"]
    assert [own.index_name("predict", i) for i in range(2)] == [
        str(tmp_path / "images" / id) for id in own.image_ids("predict")
    ]
    assert [own.file_name("predict", i) for i in range(2)] == own.image_ids("predict")
    assert len(truth_of(batch)[0]["labels"]) == 0

    data = COCODataModule(str(coco), predict_root=str(tmp_path / "images"), num_workers=0)
    data.setup("predict")
    assert len(data.datasets["predict"]) == 2
    with pytest.raises(UserError, match="has no annotations: predict with it"):
        own.setup("fit")


def test_ids_of_classes_of_a_folder_are_one_each():
    assert DetectionFolderDataModule(class_names=("a", "b")).category_ids == [1, 2]
    assert DetectionFolderDataModule(class_names=("a", "b"), category_ids=(7, 3)).category_ids == [7, 3]
    for ids in ((1,), (1, 1), (1, 2, 3), (1, 2, 2)):
        with pytest.raises(UserError, match="there must be one for each of the 2 class_names"):
            DetectionFolderDataModule(class_names=("a", "b"), category_ids=ids)


def test_a_test_set_is_read_where_there_is_one(coco):
    (coco / "annotations/instances_val2017.json").rename(coco / "annotations/instances_test2017.json")
    (coco / "val2017").rename(coco / "test2017")
    data = COCODataModule(str(coco), num_workers=0, image_size=64)
    data.setup(TrainerFn.TESTING)
    assert len(data.datasets["test"]) == len(IMAGES)


def test_boxes_without_a_size_are_left_out_aloud_and_what_reaches_beyond_an_edge_is_cut(coco, edit_coco, capsys):
    """COCO's own training set has both."""
    edit_coco(
        lambda c: (c["annotations"][0].update(bbox=[5, 8, 20, 0]), c["annotations"][1].update(bbox=[30, 10, 31, 9]))
    )
    data = ready(coco, augmentation=DetectionAugmentation(hflip=0.0), batch_size=4)
    assert "left out 1 boxes of width or height 0, such as" in capsys.readouterr().err
    (batch,) = data.train_dataloader()
    row = batch["index"].tolist().index(data.image_ids("train").index(9))
    (box,) = targets_of(batch)[row]["boxes"] / batch["size"][row].flip(0).repeat(2) * torch.tensor([60, 40, 60, 40])
    torch.testing.assert_close(box, torch.tensor([30.0, 10, 60, 19]), atol=1e-3, rtol=0)


def test_evaluation_asks_for_the_visible_part_as_training_does(coco, edit_coco):
    def beyond_by_rounding(content):
        content["annotations"][1].update(bbox=[30, -1.5, 32, 41.5])
        content["annotations"][1].pop("area")

    edit_coco(beyond_by_rounding, "val")
    data = ready(coco, batch_size=6)
    (batch,) = data.val_dataloader()
    truth = truth_of(batch)[data.image_ids("val").index(9)]
    torch.testing.assert_close(truth["boxes"][1], torch.tensor([30.0, 0, 60, 40]))
    assert truth["area"][1] == 30 * 40


def test_images_that_the_file_does_not_list_are_left_out_aloud(coco, capsys):
    picture(coco / "train2017/mine.PNG", 8, 8, [])
    assert ready(coco).image_ids("train") == [4, 5, 9, 20]
    assert "left out 1 images of" in (said := capsys.readouterr().err)
    assert "does not list, such as mine.PNG" in said
