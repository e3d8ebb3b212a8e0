"""`validate`, `test` and `predict` take a run's config and checkpoint as they are."""

import csv

import pytest
from sklearn.metrics import accuracy_score


@pytest.fixture(scope="module")
def command(commands, tmp_path_factory):
    """With one folder of runs for this file, whose tests evaluate the same run."""
    return commands(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def run(command, configs):
    return command("fit", "--config", configs / "lenet5.yaml", "--trainer.max_epochs", 2)


def as_they_are(run):
    return "--config", run.config, "--ckpt_path", run.best


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_validate_repeats_the_best_figure(run, command):
    validated = command("validate", *as_they_are(run))
    (figures,) = validated.metrics
    assert figures["val/accuracy"] == max(run.curve("val/accuracy"))
    assert figures["val/loss"] in run.curve("val/loss")


def test_predictions_agree_with_test(run, command):
    tested = command("test", *as_they_are(run))
    predicted = command("predict", *as_they_are(run))
    table = rows(predicted.directory / "predictions.csv")
    assert [row["image"] for row in table] == [str(index) for index in range(270)]
    accuracy = accuracy_score([row["label"] for row in table], [row["class"] for row in table])
    (figures,) = tested.metrics
    assert accuracy == pytest.approx(figures["test/accuracy"], abs=1e-7)
    top5 = [row["label"] in [row["class"], *(row[f"class_{k}"] for k in range(2, 6))] for row in table]
    assert sum(top5) / 270 == pytest.approx(figures["test/accuracy_top5"], abs=1e-7)
    for row in table:
        ranked = [float(row["probability"]), *(float(row[f"probability_{k}"]) for k in range(2, 6))]
        assert ranked == sorted(ranked, reverse=True)
        assert sum(ranked) <= 1 + 1e-5


def test_evaluation_leaves_the_run_alone(run, command):
    before = {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()}
    for name in ("validate", "test", "predict"):
        evaluated = command(name, *as_they_are(run))
        assert evaluated.directory.parent == run.directory.parent
        assert f"-{name}" in evaluated.directory.name  # with a number behind it within the same second
    assert {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()} == before


def test_weights_trained_in_ours_are_served_by_timm(run, command):
    ours, theirs = (command("test", *as_they_are(run), "--model.source", source) for source in ("cnnbench", "timm"))
    assert ours.metrics == theirs.metrics


def test_own_images(command, configs, photos, write_photo, tmp_path):
    """A folder of one's own, from training to predictions for images without labels."""
    recipe = ("--config", configs / "imagenet/convnext_t.yaml", "--data.root", photos, "--data.batch_size", 4)
    small = ("--data.image_size", 32, "--data.num_workers", 2, "--trainer.precision", "32-true")
    tiny = ("--model.model_args", "{depths: [1, 1, 1, 1], dims: [8, 8, 16, 16]}", "--trainer.max_epochs", 1)
    run = command("fit", *recipe, *small, *tiny, "--trainer.log_every_n_steps", 1)
    new = [tmp_path / "new" / name for name in ("a.png", "b.jpg")]
    for path in new:
        write_photo(path)
    predicted = command("predict", *as_they_are(run), "--data.predict_root", tmp_path / "new")
    table = rows(predicted.directory / "predictions.csv")
    assert [row["image"] for row in table] == [str(path) for path in new]
    assert {row["class"] for row in table} <= {"cat", "dog"}
    assert "label" not in table[0]
    assert "class_3" not in table[0]
    photos.joinpath("train").rename(tmp_path / "gone")  # the checkpoint knows the names of the classes
    photos.joinpath("val").rename(tmp_path / "gone/val")
    for words in ((*as_they_are(run), "--data.predict_root"), ("--ckpt_path", run.best, "--data.root")):
        alone = command("predict", *words, tmp_path / "new", "--data.num_workers", 0)
        assert rows(alone.directory / "predictions.csv") == table
