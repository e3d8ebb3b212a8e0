"""Broken images of a folder: left out on request, counted and listed."""

import lightning.pytorch as pl
import pytest
import torch

from cnnbench.data import ImageFolderDataModule
from cnnbench.data.base import counted
from cnnbench.errors import UserError


def folder(root, stage="fit", **options):
    options = {"image_size": 32, "batch_size": 4, "num_workers": 0} | options
    data = ImageFolderDataModule(str(root), **options)
    data.setup(stage)
    return data


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_images_are_skipped_on_request_counted_and_listed(photos, capsys, num_workers):
    broken = [photos / "train/cat/1.jpg", photos / "train/dog/2.png", photos / "val/dog/1.jpg"]
    for file in broken:
        file.write_bytes(file.read_bytes()[:200])
    data = folder(photos, on_error="skip", num_workers=num_workers, batch_size=3)
    seen = Seen()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    pl.Trainer(max_epochs=2, accelerator="cpu", num_sanity_val_steps=0, **quiet).fit(seen, data)
    assert sorted(seen.seen["train"]) == sorted(2 * [i for i in range(12) if i not in (1, 8)])
    assert sorted(seen.seen["val"]) == sorted(2 * [0, 1, 2, 3, 5])
    lines = capsys.readouterr().err.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("skipped ("))
    assert lines[at] == "skipped (3):"
    assert [line.split(" cannot be read as an image: ")[0] for line in lines[at + 1 : at + 4]] == [
        f"  {file}" for file in broken
    ]


def test_what_a_run_skipped_that_is_stopped_is_listed(photos, capsys):
    (photos / "train/cat/1.jpg").write_bytes(b"")

    class Stopped(Seen):
        def on_train_epoch_end(self):
            raise RuntimeError("stopped")

    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with pytest.raises(RuntimeError, match="stopped"):
        pl.Trainer(accelerator="cpu", **quiet).fit(Stopped(), folder(photos, on_error="skip", batch_size=3))
    assert "skipped (1):\n  " in capsys.readouterr().err


class Seen(pl.LightningModule):
    """Notes the images that reach it."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = {"train": [], "val": []}

    def training_step(self, batch):
        self.note("train", batch)
        return self.layer(batch["image"].mean()[None]).sum()

    def validation_step(self, batch):
        self.note("val", batch)

    def note(self, split, batch):
        names = [self.trainer.datamodule.index_name(split, i) for i in batch["index"]]
        assert all(f"/{'dog' if label else 'cat'}/" in name for name, label in zip(names, batch["label"], strict=True))
        assert len(batch["image"]) == len(names)
        self.seen[split] += batch["index"].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_batch_of_which_nothing_can_be_read_is_not_skipped(photos):
    for file in photos.glob("val/*/*"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"val/.* cannot be read as an image"):
        list(folder(photos, on_error="skip").val_dataloader())


@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_cannot_be_read_is_not_predicted_on_request_counted_and_listed(photos, capsys, batch_size):
    file = photos / "val/dog/1.jpg"
    file.write_bytes(file.read_bytes()[:200])
    data = ImageFolderDataModule(
        *(str(photos), None, str(photos / "val")), image_size=32, batch_size=batch_size, num_workers=0, on_error="skip"
    )
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    indices = pl.Trainer(accelerator="cpu", **quiet).predict(Predicts(), data)
    assert [index for batch in indices for index in batch] == [0, 1, 2, 3, 5]
    assert f"skipped (1):\n  {file} cannot be read as an image" in capsys.readouterr().err


class Predicts(pl.LightningModule):
    """Notes the images that count."""

    def predict_step(self, batch):
        return batch["index"][counted(batch)].tolist()


def test_a_batch_to_predict_of_which_nothing_can_be_read_is_skipped(photos):
    for file in photos.glob("val/cat/*"):
        file.write_bytes(b"")
    data = folder(photos, "predict", on_error="skip", predict_root=str(photos / "val"), batch_size=1)
    batches = list(data.predict_dataloader())
    counted_images = sum(len(batch["image"][counted(batch)]) for batch in batches)
    broken = len(list(photos.glob("val/cat/*")))
    assert (len(batches), counted_images) == (6, 6 - broken)
    assert sum(len(batch.get("skipped", ())) for batch in batches) == broken > 0
