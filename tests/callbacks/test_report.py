"""The report to W&B: confusion matrix and worst mistakes, against scikit-learn and the images themselves."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import confusion_matrix

from cnnbench.callbacks.report import WandbReport
from cnnbench.data import DigitsDataModule

CLASSES = 7


class Validation:
    """Random logits of a validation set, in batches, as the hooks of the report see them."""

    def __init__(self, seed, n=101, batch_size=16, classes=CLASSES):
        generator = torch.Generator().manual_seed(seed)
        self.classes = classes
        self.logits = torch.randn(n, classes, generator=generator) * 2
        self.labels = torch.randint(classes, (n,), generator=generator)
        self.losses = F.cross_entropy(self.logits, self.labels, reduction="none")
        self.batches = torch.arange(n).split(batch_size)

    def run(self, report, score, epoch=0, sanity_checking=False):
        trainer = SimpleNamespace(
            datamodule=SimpleNamespace(num_classes=self.classes),
            world_size=1,
            sanity_checking=sanity_checking,
            current_epoch=epoch,
            callback_metrics={"val/accuracy": torch.tensor(score)},
        )
        task = SimpleNamespace(device="cpu", monitor="val/accuracy", monitor_mode="max")
        report.on_validation_epoch_start(trainer, task)
        for index in self.batches:
            outputs = {"logits": self.logits[index], "losses": self.losses[index]}
            batch = {"label": self.labels[index], "index": index}
            report.on_validation_batch_end(trainer, task, outputs, batch, 0)
        report.on_validation_epoch_end(trainer, task)
        report.on_validation_end(trainer, task)


@pytest.mark.parametrize("worst", [5, 1000])
def test_counts_and_mistakes(worst):
    validation, report = Validation(0), WandbReport(worst)
    validation.run(report, 0.5)
    epoch, (confusion, mistakes) = report._best
    predicted = validation.logits.argmax(1)
    assert epoch == 0
    assert confusion.tolist() == confusion_matrix(validation.labels, predicted).tolist()

    wrong = [i for i in range(101) if predicted[i] != validation.labels[i]]
    expected = sorted(wrong, key=lambda i: -validation.losses[i].item())[:worst]
    assert [mistake.index for mistake in mistakes] == expected
    for mistake in mistakes:
        i = mistake.index
        assert (mistake.label, mistake.predicted) == (validation.labels[i], predicted[i])
        assert mistake.probability == pytest.approx(validation.logits[i].softmax(0).max().item())
        assert mistake.loss == validation.losses[i].item()


def test_the_best_validation_is_kept():
    report = WandbReport()
    for epoch, (seed, score) in enumerate([(1, 0.5), (2, 0.75), (3, 0.75), (4, 0.6)]):
        Validation(seed).run(report, score, epoch)
    epoch, (confusion, _) = report._best
    best = Validation(2)
    assert epoch == 1  # the first of equals, as with checkpoints
    assert confusion.tolist() == confusion_matrix(best.labels, best.logits.argmax(1)).tolist()


@pytest.mark.parametrize("classes", [CLASSES, 1000])
def test_a_resumed_run_knows_the_best_validation_before_it(tmp_path, classes):
    """Its checkpoints hold neither images, 32 of which may be 19 MB, nor a confusion matrix that nobody is shown."""
    before, after = WandbReport(), WandbReport()
    Validation(1, classes=classes).run(before, 0.75)
    torch.save(before.state_dict(), tmp_path / "state")
    assert (tmp_path / "state").stat().st_size < 10_000
    after.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    Validation(2, classes=classes).run(after, 0.5, epoch=1)
    epoch, (confusion, mistakes) = after._best
    expected, worst = before._best[1]
    assert epoch == 0
    assert confusion is expected is None if classes == 1000 else torch.equal(confusion, expected)
    assert mistakes == worst


def test_a_sanity_check_does_not_count():
    report = WandbReport()
    Validation(0).run(report, 1.0, sanity_checking=True)
    assert report._best is None


# ---------------------------------------------------------------------- in a real run


def table(run, name):
    """Return the rows of a logged table, and the files that came with it."""
    ((files, path),) = [
        (files, files[entry]) for files in run.log.artifacts.values() for entry in files if entry.startswith(name)
    ]
    return json.loads(path.read_text())["data"], files


def test_logged_counts_are_of_the_whole_validation_set(offline_run):
    counts = np.zeros((10, 10), dtype=int)
    for actual, predicted, n in table(offline_run, "val/confusion_matrix_table")[0]:
        counts[int(actual), int(predicted)] = n
    digits = DigitsDataModule()
    digits.setup()
    labels = digits.datasets["val"].labels
    assert counts.sum(axis=1).tolist() == labels.bincount().tolist()
    best = max(row["val/accuracy"] for row in offline_run.metrics if "val/accuracy" in row)
    assert counts.trace() / len(labels) == pytest.approx(best, abs=1e-6)
    assert offline_run.log.summary["best_epoch"] in (1, 2)


def test_logged_mistakes_show_their_images(offline_run):
    rows, files = table(offline_run, "val/mistakes")
    digits = DigitsDataModule()
    digits.setup()
    validation = digits.datasets["val"]
    assert len(rows) == 32
    assert [row[5] for row in rows] == sorted((row[5] for row in rows), reverse=True)
    for image, name, label, predicted, probability, loss in rows:
        assert str(validation.labels[int(name)].item()) == label != predicted
        assert -np.log(1 - probability) <= loss + 1e-6  # the label has at most what the prediction leaves
        pixels = np.asarray(Image.open(files[image["path"]]))
        assert np.array_equal(pixels, validation.images[int(name), 0].numpy())
