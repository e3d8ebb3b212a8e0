"""Scenes as batches: the same whatever delivers them, and never of digits that are held out."""

import pytest
import torch
from torchvision.ops import masks_to_boxes

from cnnbench.data import DetectionAugmentation, DigitScenesDataModule, DigitsDataModule
from cnnbench.data.detection.samples import in_original_pixels, targets_of, truth_of
from cnnbench.data.scenes import Scene
from cnnbench.errors import UserError

VARIED = DetectionAugmentation(mosaic=0.5, color_jitter=0.3, zoom_out=0.3, iou_crop=0.3, hflip=0.5, scale=(0.7, 1.3))


@pytest.fixture(autouse=True)
def run_seed(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")


def ready(**options):
    data = DigitScenesDataModule(
        **{"batch_size": 24, "train_scenes": 24, "val_scenes": 10, "test_scenes": 10} | options
    )
    data.setup("fit")
    return data


def delivered(data, epochs=(0, 1)):
    """Return {(epoch, index): (image, targets)} as they reach the model."""
    found = {}
    loader = data.train_dataloader()
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            batch = data.on_after_batch_transfer(batch, 0)
            rows = zip(batch["index"].tolist(), batch["image"], targets_of(batch), strict=True)
            found |= {(epoch, index): (image, *targets.values()) for index, image, targets in rows}
    return found


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("augmentation", [DetectionAugmentation(hflip=0.0), VARIED])
def test_scenes_are_alike_whatever_the_batch_and_the_workers(augmentation):
    reference = delivered(ready(batch_size=24, augmentation=augmentation))
    assert len(reference) == 48
    before = torch.get_rng_state()
    for options in ({"batch_size": 8, "num_workers": 2}, {"batch_size": 6}):
        got = delivered(ready(augmentation=augmentation, **options))
        assert got.keys() == reference.keys()
        assert all(same(got[key], reference[key]) for key in got)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_that_goes_on_within_an_epoch_sees_the_rest_as_it_would_have_been():
    whole = delivered(ready(batch_size=6, augmentation=VARIED), epochs=[1])
    data = ready(batch_size=6, augmentation=VARIED, num_workers=1)
    loader = data.train_dataloader()
    loader.sampler.used = lambda: 12  # as Lightning counts them in a resumed run
    loader.sampler.set_epoch(1)
    rest = [(1, index) for batch in loader for index in batch["index"].tolist()]
    assert rest == list(whole)[12:]
    loader.sampler.set_epoch(1)
    batches = [data.on_after_batch_transfer(batch, 0) for batch in loader]
    images = [image for batch in batches for image in batch["image"]]
    assert same(images, [whole[key][0] for key in rest])


def test_training_never_repeats_and_evaluation_always_does(monkeypatch):
    first = delivered(ready(batch_size=24))
    assert len({bytes(image.numpy()) for image, *_ in first.values()}) == 48
    (val,) = ready().val_dataloader()
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    other = delivered(ready(batch_size=24))
    assert not any(torch.equal(first[key][0], other[key][0]) for key in first)
    (again,) = ready(val_scenes=20, train_scenes=30).val_dataloader()
    assert torch.equal(again["image"][:10], val["image"])
    (test,) = ready().test_dataloader()
    assert not torch.equal(test["image"], val["image"])
    seen = {bytes(one["boxes"].numpy()) for one in targets_of(test)} & {
        bytes(one["boxes"].numpy()) for one in targets_of(val)
    }
    assert seen <= {b""}  # not one scene in common but the empty


def test_digits_are_those_of_the_digits_own_split():
    digits = DigitsDataModule(image_size=8)
    digits.setup("fit")
    data = ready()
    for split in ("train", "val", "test"):
        own = torch.from_numpy(data.datasets[split].scenes.digits)[:, 1:-1, 1:-1]
        assert torch.equal(own.byte(), digits.datasets[split].images[:, 0])


def test_a_batch_holds_what_the_scenes_do():
    data = ready(batch_size=10, image_size=80)
    (raw,) = data.val_dataloader()
    batch = data.on_after_batch_transfer(dict(raw), 0)
    assert raw["image"].shape == (10, 3, 96, 96)  # to a multiple of 32
    assert batch["image"].dtype == torch.float32
    assert not batch["image"][:, :, 80:].any()
    assert not batch["image"][:, :, :, 80:].any()
    assert torch.equal(batch["mask"].sum((1, 2)), torch.full((10,), 80 * 80))
    scenes = data.datasets["val"].scenes
    again = [data.datasets["val"][i] for i in range(10)]
    for row, (sample, targets, truth) in enumerate(zip(again, targets_of(batch), truth_of(batch), strict=True)):
        shown = batch["image"][row, :, :80, :80] * torch.tensor(data.std)[:, None, None]
        shown = shown + torch.tensor(data.mean)[:, None, None]
        torch.testing.assert_close(shown * 255, sample.image.float(), atol=1e-3, rtol=0)
        assert torch.equal(targets["boxes"], sample.boxes)
        assert torch.equal(targets["labels"], sample.labels)
        assert torch.equal(truth["boxes"], sample.boxes)
        assert (batch["label"][row, len(sample.labels) :] == -1).all()
    assert scenes.size == 80
    assert same(
        [one["boxes"] for one in in_original_pixels(targets_of(batch), batch)],
        [one["boxes"] for one in targets_of(batch)],
    )
    assert data.image_ids("val") == batch["index"].tolist()
    assert data.category_ids == list(range(10))
    shortest, longest = data.box_sizes().aminmax(dim=0)
    assert len(data.box_sizes()) > 500
    assert (longest <= 60).all()
    assert (shortest >= 3).all()


@pytest.mark.parametrize("augmentation", [DetectionAugmentation(hflip=0.0), VARIED])
def test_masks_are_in_their_boxes_and_fill_those_that_are_not_cut(augmentation):
    plain, masked = (ready(image_size=80, augmentation=augmentation, masks=masks) for masks in (False, True))
    for name in ("train_dataloader", "val_dataloader"):
        for raw, other in zip(getattr(masked, name)(), getattr(plain, name)(), strict=True):
            assert torch.equal(raw["image"], other["image"])
            assert torch.equal(raw["boxes"], other["boxes"])
            batch = masked.on_after_batch_transfer(raw, 0)
            for row, targets in enumerate(targets_of(batch)):
                assert targets["masks"].dtype == torch.bool
                assert targets["masks"].shape == (len(targets["boxes"]), *batch["image"].shape[2:])
                assert not targets["masks"][:, ~batch["mask"][row]].any()
                for box, mask in zip(targets["boxes"], targets["masks"], strict=True):
                    if min(box[2:] - box[:2]) < 4:
                        continue  # too few pixels
                    found = masks_to_boxes(mask[None])[0] + torch.tensor([0, 0, 1, 1])
                    if name == "val_dataloader" or augmentation is not VARIED:
                        assert torch.equal(found, box)
                    else:
                        assert (found[:2] >= box[:2] - 2).all() and (found[2:] <= box[2:] + 2).all()


def test_masks_that_nobody_asked_for_are_not_made(monkeypatch):
    monkeypatch.delattr(Scene, "masks")
    data = ready(augmentation=VARIED)
    for batch in (*data.train_dataloader(), *data.val_dataloader()):
        assert "object_masks" not in batch
        assert all(targets.keys() == {"boxes", "labels"} for targets in targets_of(batch))


def test_scenes_know_their_statistics_and_become_grey():
    data = ready(batch_size=300, train_scenes=300)
    (batch,) = data.train_dataloader()
    pixels = batch["image"].double().flatten(2) / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2)).tolist(), abs=0.05)
    assert data.std == pytest.approx(pixels.transpose(0, 1).flatten(1).std(1).tolist(), abs=0.05)
    grey = ready(in_chans=1, augmentation=VARIED)
    for batch in (*grey.train_dataloader(), *grey.val_dataloader()):
        assert batch["image"].shape[1] == len(grey.mean) == 1


def test_a_batch_of_empty_scenes_is_one():
    data = ready(objects=(0, 0), batch_size=4)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch["boxes"].shape == (4, 0, 4)
    assert [len(one["labels"]) for one in targets_of(batch)] == [0] * 4
    assert "key" not in batch


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"train_scenes": 0}, "train_scenes is 0"),
        ({"image_size": 32}, "object_size is [16, 48]: a scene has 32 pixels"),
    ],
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(UserError) as error:
        ready(**options)
    assert named in str(error.value)
