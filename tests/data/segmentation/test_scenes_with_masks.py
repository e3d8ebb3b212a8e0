"""Digit scenes as masks: of classes and of instances, as the scenes themselves tell them."""

import torch

from cnnbench.data import DigitScenesDataModule, DigitScenesSegmentationDataModule, SegmentationAugmentation

SMALL = {"train_scenes": 8, "val_scenes": 6, "test_scenes": 4, "batch_size": 4}


def test_masks_are_of_the_scenes_that_detectors_see():
    boxes, masks = DigitScenesDataModule(**SMALL), DigitScenesSegmentationDataModule(**SMALL, instances=True)
    for data in (boxes, masks):
        data.setup("fit")
    seen = 0
    for there, own in zip(boxes.val_dataloader(), masks.val_dataloader(), strict=True):
        assert torch.equal(there["image"], own["image"])
        assert torch.equal(there["label"], own["label"])
        for row in range(len(own["image"])):
            mask, instances = own["mask"][row], own["instances"][row]
            assert torch.equal(mask > 0, instances > 0)
            for place, label in enumerate(own["label"][row].tolist()):
                ys, xs = (instances == place + 1).nonzero(as_tuple=True)
                if label < 0:
                    assert not len(ys)
                    continue
                assert (mask[ys, xs] == label + 1).all()
                around = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                assert torch.stack(around).tolist() == there["boxes"][row, place].tolist()
                seen += 1
    assert seen > 5
    assert masks.class_names == ("background", *"0123456789")


def test_varied_scenes_keep_both_masks_together():
    varied = SegmentationAugmentation(hflip=0.5, rotation=30, scale=(0.5, 1.5))
    data = DigitScenesSegmentationDataModule(**SMALL, instances=True, augmentation=varied)
    data.setup("fit")
    beyond = 0
    for batch in data.train_dataloader():
        counts = batch["mask"] != 255
        assert torch.equal((batch["mask"] > 0) & counts, batch["instances"] > 0)
        assert batch["instances"].max() <= batch["label"].shape[1]
        assert batch["image"].shape == (4, 3, 96, 96)
        beyond += int((~counts).sum())
    assert beyond
