"""The segmentation task under a Trainer: precisions, and validation sets of which little counts."""

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F

from cnnbench import DigitScenesSegmentationDataModule, SegmentationTask
from cnnbench.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")

WEIGHTS = [0.3, *[1.0] * 10]


def few_scenes(data=DigitScenesSegmentationDataModule, val_scenes=4):
    options = {"image_size": 32, "object_size": (12, 24), "batch_size": 2}
    return data(train_scenes=4, val_scenes=val_scenes, test_scenes=4, **options)


def tiny_unet(**options):
    return SegmentationTask("unet", model_args={"widths": [4, 4, 4], "deep_supervision": 1}, **options)


def trainer(**options):
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-true", torch.float32), ("64-true", torch.float64)])
def test_losses_are_in_32_bits_at_least(precision, dtype):
    task = tiny_unet(losses={"cross_entropy": 1.0, "dice": 1.0, "focal": 1.0}, class_weights=WEIGHTS)
    losses = []
    task.on_train_batch_end = lambda outputs, batch, batch_idx: losses.append(outputs["loss"])
    trainer(precision=precision).fit(task, few_scenes())
    assert [loss.dtype for loss in losses] == [dtype] * 2
    assert all(loss.isfinite() for loss in losses)


def test_evaluation_in_64_bits_is_exact_to_64_bits():
    task, data = tiny_unet(), few_scenes()
    trainer(precision="64-true").validate(task, data, verbose=False)
    task.double().eval()
    total = 0.0
    for batch in data.val_dataloader():
        batch = data.on_after_batch_transfer(batch, 0)
        with torch.no_grad():
            total += F.cross_entropy(task(batch["image"].double()), batch["mask"].long()).item() / 2
    assert task.mean_losses["val_loss"].compute().item() == pytest.approx(total, rel=1e-12)


class FirstBatchesDoNotCount(DigitScenesSegmentationDataModule):
    """Validation scenes of whose first batches no pixel counts."""

    without = 2

    def on_before_batch_transfer(self, batch, dataloader_idx):
        if not self.trainer.training and batch["index"][0] < self.without * self.batch_size:
            batch["mask"] = torch.full_like(batch["mask"], 255)
        return super().on_before_batch_transfer(batch, dataloader_idx)


def test_a_set_that_begins_with_nothing_that_counts_passes_the_sanity_check():
    """The check looks at two batches; that no pixel of the whole set counts is still refused."""
    run = trainer(limit_train_batches=1)
    data = few_scenes(FirstBatchesDoNotCount, val_scenes=6)
    run.fit(tiny_unet(), data)
    assert 0 <= run.callback_metrics["val/miou"] <= 1
    data = few_scenes(FirstBatchesDoNotCount)
    with pytest.raises(UserError, match="no pixel of the val masks counts"):
        trainer().validate(tiny_unet(), data, verbose=False)
