"""Several tasks by the command line: train, test, predict, train on, some heads alone, in one process and in two."""

import csv

import numpy as np
import pytest
import torch
from forked import run_forked

TINY = (
    *("--model.weighting", "uncertainty", "--trainer.precision", "32-true"),
    *("--model.name", "mini_resnet", "--data.image_size", 32, "--data.object_size", "[12, 24]", "--data.batch_size", 8),
    *("--model.optim.base_batch_size", 8, "--model.optim.warmup_epochs", 1, "--trainer.log_every_n_steps", 1),
    *("--data.train_scenes", 32, "--data.val_scenes", 11, "--data.test_scenes", 13),
)


@pytest.fixture(scope="module")
def recipe(configs):
    return ("--config", configs / "multitask/digits.yaml", *TINY)


@pytest.fixture(scope="module")
def run(commands, tmp_path_factory):
    return commands(tmp_path_factory.mktemp("multi_task"))


@pytest.fixture(scope="module")
def fitted(run, recipe):
    return run("fit", *recipe, "--trainer.max_epochs", 2)


def weights_of(run):
    return torch.load(run.directory / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_fit_logs_each_loss_what_it_counts_for_and_each_figure(fitted):
    rows = [row for row in fitted.metrics if "train/loss" in row]
    assert len(rows) == 8
    heads = ("classification", "box", "embedding")
    first = rows[0]
    assert [first[f"train/weight_{head}"] for head in heads] == pytest.approx([1.0, 0.25, 0.3])
    weighted = sum(first[f"train/weight_{head}"] * first[f"train/loss_{head}"] for head in heads)
    assert first["train/loss"] == pytest.approx(weighted, rel=1e-5)  # log sigma is 0 at first
    assert rows[-1]["train/weight_box"] != 0.25
    for row in fitted.metrics:
        if "val/score" in row:
            figures = [row["val/accuracy"], row["val/box_iou"], row["val/recall_at_1"]]
            assert row["val/score"] == pytest.approx(sum(figures) / 3)


def test_a_run_that_goes_on_is_the_run_that_went_through(fitted, run, recipe):
    first = run("fit", *recipe, "--trainer.max_epochs", 1)
    run("fit", *recipe, "--trainer.max_epochs", 2, "--ckpt_path", first.directory / "checkpoints/last.ckpt")
    whole, resumed = weights_of(fitted), weights_of(first)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_a_checkpoint_alone_is_tested_and_predicts(fitted, run):
    tested = run("validate", "--ckpt_path", fitted.best)
    assert tested.curve("val/score") == [max(fitted.curve("val/score"))]
    predicted = run("predict", "--ckpt_path", fitted.best).directory
    with (predicted / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 13
    assert all(0 <= float(row["x2"]) - float(row["x1"]) <= 1 for row in rows)
    embeddings = np.load(predicted / "embeddings.npy")
    assert embeddings.shape == (13, 128)
    nearest = (embeddings @ embeddings.T - 2 * np.eye(13)).argmax(1)
    recall = np.mean([rows[place]["label"] == row["label"] for place, row in zip(nearest, rows, strict=True)])
    tested = run("test", "--ckpt_path", fitted.best)
    assert tested.curve("test/recall_at_1") == [pytest.approx(recall)]
    hits = np.mean([row["class"] == row["label"] for row in rows])
    assert tested.curve("test/accuracy") == [pytest.approx(hits)]


def test_a_folder_of_photos_is_predicted(fitted, run, write_photo, tmp_path):
    write_photo(tmp_path / "images/wide.jpg", 90, 41)
    predicted = run("predict", "--ckpt_path", fitted.best, "--data.root", tmp_path / "images").directory
    with (predicted / "predictions.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["image"].endswith("wide.jpg") and {"class", "x1", "y2"} <= row.keys()


def test_one_head_learns_and_the_rest_stays(fitted, run, recipe, caplog):
    """A new head on what a run has learned."""
    own = ("--model.heads", "{box: 1, embedding: 1}", "--model.trained_heads", "[embedding]")
    more = ("--model.freeze_backbone", "true", "--model.weighting", "fixed", "--trainer.max_epochs", 1)
    fine = run("fit", *recipe, *own, *more, "--model.weights", fitted.best)
    after = weights_of(fine)
    before = torch.load(fitted.best, weights_only=True)["state_dict"]
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == {"network.heads.embedding.weight", "network.heads.embedding.bias"}
    trained = sum(after[key].numel() for key in changed)
    assert f"{trained:,} of them trained" in fine.out and "random weights" not in caplog.text
    run("fit", *recipe, *own, *more)
    assert "the frozen backbone has random weights" in caplog.text


def test_gradual_unfreezing_knows_its_stages_and_learns_the_weights_from_the_first_on(run, recipe):
    callback = ("--trainer.callbacks+=Finetuning", "--trainer.callbacks.strategy=gradual")
    fine = run("fit", *recipe, *callback, "--trainer.max_epochs", 2)
    counts = fine.curve("train/trainable_parameters")
    assert counts[0] < counts[1]
    weights = fine.curve("train/weight_box")
    assert weights[3] != weights[0]  # in the first epoch, with the heads alone


def test_it_trains_in_double_precision(run, recipe):
    short = ("--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 1)
    fine = run("fit", *recipe, "--trainer.precision", "64-true", *short)
    assert all(value.dtype == torch.float64 for value in weights_of(fine).values() if value.is_floating_point())
    assert 0 <= fine.curve("val/box_iou")[0] <= 1
    predicted = run("predict", "--ckpt_path", fine.best, "--trainer.precision", "64-true").directory
    assert np.load(predicted / "embeddings.npy").dtype == np.float32


def test_heads_without_boxes_take_any_images(run, recipe):
    plain = ("--data", "DigitsDataModule", "--data.batch_size", 8, "--data.image_size", 32, "--data.in_chans", 3)
    short = ("--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 2)
    recipe = recipe[:2]
    more = ("--model.name", "mini_resnet", "--model.heads", "{embedding: 1}", "--model.embedding_loss", "cosine")
    fine = run("fit", *recipe, *more, *plain, *short)
    assert 0 <= fine.curve("val/recall_at_1")[0] <= 1
    assert fine.curve("val/score") == fine.curve("val/recall_at_1")


def test_labels_alone_are_refused_where_a_box_is_to_be_learned(mistake, configs):
    recipe = ("fit", "--config", configs / "multitask/digits.yaml")
    message = mistake(*recipe, "--data", "DigitsDataModule", "--data.batch_size", 8)
    assert "DigitsDataModule has no box an image for the head box; DigitLocalizationDataModule has" in message
    assert "unknown head 'boxes'; did you mean 'box'" in mistake(*recipe, "--model.heads", "{boxes: 1}")
    assert "unknown model 'resnet81'" in mistake(*recipe, "--model.name", "resnet81")


def test_two_processes_count_what_one_does(fitted, tmp_path):
    """13 images in batches of 8: one process has 8 of them, the other 5."""
    common = ("--ckpt_path", fitted.best, "--wandb", "disabled", "--trainer.accelerator", "cpu")
    run_forked(
        *(
            (n, [name, *common, "--trainer.devices", n, "--trainer.default_root_dir", tmp_path / f"{name}-{n}"])
            for name in ("test", "predict")
            for n in (1, 2)
        )
    )
    figures = []
    for n in (1, 2):
        with next((tmp_path / f"test-{n}").rglob("metrics.csv")).open() as file:
            figures.append({key: float(value) for row in csv.DictReader(file) for key, value in row.items() if value})
    assert figures[0].keys() == figures[1].keys()
    for key, value in figures[0].items():
        assert figures[1][key] == pytest.approx(value, rel=1e-12), key
    tables = [next((tmp_path / f"predict-{n}").rglob("predictions.csv")).read_text() for n in (1, 2)]
    assert tables[0] == tables[1]
    embeddings = [np.load(next((tmp_path / f"predict-{n}").rglob("embeddings.npy"))) for n in (1, 2)]
    assert np.array_equal(*embeddings)
