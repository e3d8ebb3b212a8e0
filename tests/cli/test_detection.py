"""Detection by the command line: train, test, predict, train on, in one process and in two."""

import json

import pytest
import torch
import yaml
from faster_coco_eval import COCO
from forked import run_forked
from PIL import Image

TINY = (
    *("--model.backbone", "mini_resnet"),
    *("--model.model_args", "{strides: [4], fpn_channels: 16, anchors: 2, score_thresh: 0.0}"),
    *("--trainer.precision", "32-true"),
    *("--data.image_size", 48, "--data.object_size", "[12, 24]", "--data.objects", "[0, 3]", "--data.batch_size", 4),
    *("--data.train_scenes", 16, "--data.val_scenes", 5, "--data.test_scenes", 7, "--trainer.log_every_n_steps", 1),
)


@pytest.fixture(scope="module")
def recipe(configs):
    return ("--config", configs / "detection/yolo_digits.yaml", *TINY)


@pytest.fixture(scope="module")
def run(commands, tmp_path_factory):
    return commands(tmp_path_factory.mktemp("detection"))


@pytest.fixture(scope="module")
def fitted(run, recipe):
    return run("fit", *recipe, "--trainer.max_epochs", 2)


@pytest.fixture
def photos_in_a_folder(tmp_path, write_photo):
    write_photo(tmp_path / "images/wide.jpg", 90, 40)
    write_photo(tmp_path / "images/below/tall.png", 30, 70)
    return tmp_path / "images"


def test_fit_logs_each_loss_and_their_sum(fitted):
    rows = [row for row in fitted.metrics if "train/loss" in row]
    assert len(rows) == 8
    for row in rows:
        losses = [value for name, value in row.items() if name.startswith("train/loss_")]
        assert len(losses) == 3
        assert row["train/loss"] == pytest.approx(sum(losses), rel=1e-5)
    assert all(0 <= row["val/map"] <= row["val/map_50"] <= 1 for row in fitted.metrics if "val/map" in row)


def test_anchors_are_clustered_from_the_training_scenes(fitted):
    anchors = torch.load(fitted.best, weights_only=True)["state_dict"]["network.anchors"]
    assert anchors.shape == (1, 2, 2)
    assert anchors.min() > 6 and anchors.max() <= 24 and bool((anchors[0, 1] > anchors[0, 0]).all())


def test_anchors_that_the_scenes_do_not_give_are_named(mistake, recipe):
    message = mistake("fit", *recipe, "--data.objects", "[0, 0]", leaves_run=True)
    assert "2 anchors cannot be clustered from boxes of 0 different sizes" in message


def test_a_run_that_goes_on_is_the_run_that_went_through(fitted, run, recipe):
    first = run("fit", *recipe, "--trainer.max_epochs", 1)
    run("fit", *recipe, "--trainer.max_epochs", 2, "--ckpt_path", first.directory / "checkpoints/last.ckpt")
    whole, resumed = (
        torch.load(of.directory / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for of in (fitted, first)
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert fitted.curve("train/loss") == first.curve("train/loss")


def test_a_checkpoint_alone_is_tested_as_it_was_validated(fitted, run):
    tested = run("validate", "--ckpt_path", fitted.best)
    assert tested.curve("val/map") == [max(fitted.curve("val/map"))]
    figures = run("test", "--ckpt_path", fitted.best).metrics[0]
    assert {"test/map", "test/map_50", "test/map_75", "test/map_small"} <= figures.keys()
    assert all(0 <= value <= 1 for name, value in figures.items() if name.startswith("test/"))  # never COCO's -1


def test_a_checkpoint_alone_predicts_a_folder_of_images(fitted, run, photos_in_a_folder):
    words = ("--data.root", photos_in_a_folder, "--threshold", 0)
    written = run("predict", "--ckpt_path", fitted.best, *words).directory
    coco = COCO(str(written / "images.json"))  # COCO's own reader
    images = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    assert {name: (image["width"], image["height"]) for name, image in images.items()} == {
        "wide.jpg": (90, 40),
        "below/tall.png": (30, 70),
    }
    found = coco.loadRes(str(written / "predictions.json"))
    for annotation in found.loadAnns(found.getAnnIds()):
        x, y, width, height = annotation["bbox"]
        image = coco.imgs[annotation["image_id"]]
        assert min(x, y, width, height) >= 0
        assert x + width <= image["width"] + 0.01 and y + height <= image["height"] + 0.01
        assert 0 < annotation["score"] <= 1
        assert annotation["category_id"] in coco.cats
    assert found.anns
    assert {id: category["name"] for id, category in coco.cats.items()} == {id: str(id) for id in range(10)}
    pictures = sorted((written / "pictures").iterdir())
    assert len(pictures) == 2
    assert all(max(Image.open(picture).size) >= 640 for picture in pictures)  # large enough to read the labels


def test_images_that_cannot_be_read_are_not_predicted_on_request(fitted, run, mistake, photos_in_a_folder):
    bad = photos_in_a_folder / "bad.jpg"
    bad.write_text("no")
    words = ("predict", "--ckpt_path", fitted.best, "--data.root", photos_in_a_folder)
    assert f"{bad} cannot be read as an image" in mistake(*words, leaves_run=True)
    predicted = run(*words, "--data.on_error", "skip", "--data.batch_size", 1)
    images = json.loads((predicted.directory / "images.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["wide.jpg", "below/tall.png"]
    assert f"skipped (1):\n  {bad} cannot be read as an image" in predicted.err


def test_ids_of_categories_are_those_of_the_training_data(fitted, run, photos_in_a_folder, tmp_path):
    """A folder that a recipe names has the checkpoint's, too."""
    checkpoint = torch.load(fitted.best, weights_only=True)
    ids = [1, 3, 18, *range(70, 77)]
    checkpoint["cnnbench"]["category_ids"] = ids
    torch.save(checkpoint, tmp_path / "gaps.ckpt")
    recipe = yaml.safe_load(fitted.config.read_text())
    recipe["data"] = {"class_path": "cnnbench.DetectionFolderDataModule", "init_args": {"image_size": 48}}
    (tmp_path / "folder.yaml").write_text(yaml.safe_dump(recipe))
    for words in ((), ("--config", tmp_path / "folder.yaml")):
        given = ("--ckpt_path", tmp_path / "gaps.ckpt", "--data.root", photos_in_a_folder)
        written = run("predict", *words, *given, "--data.num_workers", 0, "--pictures", 0).directory
        categories = json.loads((written / "images.json").read_text())["categories"]
        assert [category["id"] for category in categories] == ids
        found = {one["category_id"] for one in json.loads((written / "predictions.json").read_text())}
        assert found and found <= set(ids)


def test_scenes_without_objects_train_and_cannot_be_validated(run, recipe, mistake):
    anchors = ("--model.model_args.anchors", "[[8, 12], [16, 24]]")
    empty = ("--data.objects", "[0, 0]", "--trainer.max_epochs", 1, *anchors)
    rows = run("fit", *recipe, *empty, "--trainer.limit_val_batches", 0).metrics
    assert all(0 < row["train/loss"] < 10 and row["train/grad_norm"] > 0 for row in rows)
    assert "there are no objects in the val images" in mistake("fit", *recipe, *empty, leaves_run=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "DigitsDataModule"), "DigitsDataModule has no boxes for DetectionTask"),
        (("--model.source", "torchvision"), "torchvision has no yolo"),
        (("--trainer.precision", "bf16-true"), "bf16-mixed keeps them"),
        (
            ("--model.loss_weights", "{loss_boxes: 2.0}"),
            "has no loss 'loss_boxes' for loss_weights; did you mean 'loss_box'",
        ),
    ],
)
def test_a_mistake_is_named(words, message, configs, mistake):
    few = ("--trainer.max_epochs", 1, "--trainer.limit_val_batches", 1, "--trainer.num_sanity_val_steps", 0)
    assert message in mistake("fit", "--config", configs / "detection/yolo_digits.yaml", *few, *words, leaves_run=True)


def test_boxes_are_not_drawn_for_a_classifier(trained, mistake):
    run = trained("lenet5")
    assert "--pictures is for DetectionTask" in mistake("predict", "--ckpt_path", run.checkpoint, "--pictures", 3)


def test_a_threshold_that_no_score_has_is_named(fitted, mistake):
    message = mistake("predict", "--ckpt_path", fitted.best, "--threshold", 7)
    assert "threshold is 7.0: a probability is between 0 and 1" in message


@pytest.mark.slow
def test_two_processes_find_and_count_what_one_does(fitted, tmp_path):
    """7 images in batches of 4: one process has 4 of them, the other 3."""
    common = ("--ckpt_path", fitted.best, "--wandb", "disabled", "--trainer.accelerator", "cpu")
    run_forked(
        *(
            (n, [name, *common, "--trainer.devices", n, "--trainer.default_root_dir", tmp_path / f"{name}-{n}"])
            for name in ("test", "predict")
            for n in (1, 2)
        )
    )
    figures = [next((tmp_path / f"test-{n}").rglob("metrics.csv")).read_text() for n in (1, 2)]
    assert figures[0] == figures[1]
    for name in ("predictions.json", "images.json"):
        alone, shared = (json.loads(next((tmp_path / f"predict-{n}").rglob(name)).read_text()) for n in (1, 2))
        assert alone == shared
    for n in (1, 2):
        (directory,) = (path.parent for path in (tmp_path / f"predict-{n}").rglob("config.yaml"))
        pictures = sorted((tmp_path / f"predict-{n}").rglob("*.jpg"))
        assert pictures == [directory / f"pictures/{index:06d}.jpg" for index in range(7)]
