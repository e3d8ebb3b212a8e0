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


def test_a_head_that_was_trained_for_other_classes_starts_anew(tmp_path, caplog):
    """As many of them: the names tell; the rest is as it was."""
    first = tiny_unet()
    trainer(fast_dev_run=1).fit(first, few_scenes())
    state = {f"network.{key}": value for key, value in first.network.state_dict().items()}
    for own in (tuple("abcdefghijk"), few_scenes().class_names):
        torch.save({"state_dict": state, "cnnbench": {"class_names": own}}, tmp_path / f"{own[0]}.ckpt")
        task = tiny_unet(weights=str(tmp_path / f"{own[0]}.ckpt"))
        with caplog.at_level("WARNING"):
            caplog.clear()
            trainer().validate(task, few_scenes(), verbose=False)
        loaded = task.network.state_dict()
        kept = own == few_scenes().class_names
        assert torch.equal(loaded["down.0.0.weight"], state["network.down.0.0.weight"])
        assert torch.equal(loaded["head.weight"], state["network.head.weight"]) == kept
        assert ("its classifier is for other classes, so head" in caplog.text) != kept


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
