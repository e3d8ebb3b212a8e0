"""The same samples, augmented alike, whatever the batches, workers and processes that deliver them."""

import random

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler
from torchvision.transforms.functional import normalize

from cnnbench.data import BatchAugmentation, DigitsDataModule, FolderAugmentation, ImageFolderDataModule
from cnnbench.data.pixels import normalized
from cnnbench.data.samplers import EvalSampler, TrainSampler, owner
from cnnbench.errors import UserError

VARIED = BatchAugmentation(crop_padding=2, hflip=0.5, rotation=10)
VARIED_FILES = FolderAugmentation(auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.4, random_erasing=0.5)


@pytest.fixture(autouse=True)
def run_seed(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")


def digits(**options):
    data = DigitsDataModule(augmentation=VARIED, **options)
    data.setup("fit")
    return data


def folder(root, **options):
    data = ImageFolderDataModule(str(root), image_size=32, augmentation=VARIED_FILES, **options)
    data.setup("fit")
    return data


def delivered(data, epochs=(0, 1)):
    """Return {(epoch, index): image as it reaches the model}."""
    images = {}
    loader = data.train_dataloader()
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            batch = data.on_after_batch_transfer(batch, 0)
            images |= {(epoch, int(i)): x for i, x in zip(batch["index"], batch["image"], strict=True)}
    return images


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one.keys() & other.keys())


@pytest.mark.parametrize("options", [{"batch_size": 50, "num_workers": 2}, {"batch_size": 419}])
def test_digits_vary_alike_whatever_the_batch_and_the_workers(options):
    reference = delivered(digits(batch_size=1257))
    assert len(reference) == 2 * 1257
    assert same(reference, delivered(digits(**options)))


@pytest.mark.parametrize("options", [{"batch_size": 4, "num_workers": 2}, {"batch_size": 3, "num_workers": 0}])
def test_files_vary_alike_whatever_the_batch_and_the_workers(photos, options):
    reference = delivered(folder(photos, batch_size=12, num_workers=0))
    assert len(reference) == 24
    got = delivered(folder(photos, **options))
    assert got.keys() == reference.keys()
    assert same(reference, got)


def test_epochs_and_seeds_vary_differently(photos, monkeypatch):
    first = delivered(folder(photos, batch_size=12, num_workers=0))
    assert not any(torch.equal(first[0, i], first[1, i]) for i in range(12))
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    assert not same(first, delivered(folder(photos, batch_size=12, num_workers=0)))


def test_loading_draws_nothing_from_the_global_generators(photos):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    delivered(folder(photos, batch_size=12, num_workers=0))
    delivered(digits(), epochs=[0])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()


def test_processes_share_an_epoch_and_its_keys():
    alone = dict(TrainSampler(range(101), seed=5))
    parts = [dict(TrainSampler(range(101), num_replicas=3, rank=rank, seed=5)) for rank in range(3)]
    assert set().union(*parts) == set(range(101))
    assert all(alone[index] == key for part in parts for index, key in part.items())


@pytest.mark.parametrize(("samples", "processes"), [(101, 2), (61, 3), (4, 4), (7, 1), (2, 3), (8, 2), (19, 2)])
def test_evaluation_counts_each_sample_once_in_the_batches_of_one_process(samples, processes):
    def batches(processes, rank):
        return list(BatchSampler(EvalSampler(range(samples), 8, processes, rank), 8, drop_last=False))

    shares = [batches(processes, rank) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1  # what all do together, all do equally often
    assert all(batch in batches(1, 0) for share in shares for batch in share)
    counted = [
        [batch for batch in share if {owner(index, 8, processes) for index in batch} == {rank}]
        for rank, share in enumerate(shares)
    ]
    assert sorted(batch for share in counted for batch in share) == batches(1, 0)
    assert [index for batch in batches(1, 0) for index in batch] == list(range(samples))


def test_only_an_epochs_smaller_last_batch_is_dropped():
    assert {len(batch["index"]) for batch in digits(batch_size=128).train_dataloader()} == {128}
    assert len(digits(batch_size=1257).train_dataloader()) == 1
    assert [len(batch["index"]) for batch in digits(batch_size=128).val_dataloader()] == [128, 128, 14]


class Witness(pl.LightningModule):
    """Writes down what Lightning hands it."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch):
        self.seen["train"].append((self.current_epoch, batch))
        return self.layer(batch["image"].mean()[None]).sum()

    def validation_step(self, batch):
        self.seen["val"].append(batch)

    def test_step(self, batch):
        self.seen["test"].append(batch)

    def predict_step(self, batch):
        self.seen["predict"].append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(**options):
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return pl.Trainer(max_epochs=2, accelerator="cpu", num_sanity_val_steps=1, **quiet, **options)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_under_the_trainer(precision):
    data = digits(batch_size=419)
    witness = Witness()
    run = trainer(precision=precision)
    run.fit(witness, data)
    run.test(witness, data, verbose=False)
    run.predict(witness, data)

    expected = delivered(digits(batch_size=1257))
    assert len(witness.seen["train"]) == 6
    for epoch, batch in witness.seen["train"]:
        assert batch["image"].dtype == (torch.float64 if precision == "64-true" else torch.float32)
        for index, image in zip(batch["index"].tolist(), batch["image"], strict=True):
            assert torch.equal(image.float(), expected[epoch, index])
    clean = data.datasets["test"].images / 255
    for split in ("test", "predict"):
        (batch,) = witness.seen[split]
        assert batch["index"].tolist() == list(range(270))
        torch.testing.assert_close(batch["image"].float(), (clean - data.mean[0]) / data.std[0], atol=1e-5, rtol=1e-5)


def test_a_broken_image_ends_a_run_with_one_line_that_names_it(photos):
    file = photos / "train/dog/3.jpg"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(UserError) as error:
        trainer().fit(Witness(), folder(photos, batch_size=4, num_workers=2))
    assert str(error.value).startswith(f"{file} cannot be read as an image: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (57, 3, 224, 224)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_normalisation_is_torchvisions_whatever_the_size_and_the_layout(shape, channels_last):
    """The larger one is of the size for which memory of former batches is taken."""
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    got = [normalized(images, mean, std) for _ in range(2)]
    torch.testing.assert_close(got[0], normalize(images / 255, mean, std), atol=1e-5, rtol=1e-5)
    assert got[0].is_contiguous()
    got[0].zero_()
    assert got[1].any()  # no memory in common


def test_memory_of_a_batch_serves_the_next_one_when_nothing_is_in_it_any_more():
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)

    def address(batch):
        return batch.untyped_storage().data_ptr()

    first = normalized(images, (0.0,) * 3, (1.0,) * 3)
    place, some, values = address(first), first[3:5], first[3:5].clone()
    del first
    second = normalized(images.flip(0), (0.0,) * 3, (1.0,) * 3)
    assert address(second) != place  # there is still a view of it
    assert torch.equal(some, values)
    del some
    assert address(normalized(images, (0.0,) * 3, (1.0,) * 3)) == place
    assert address(normalized(images[:50], (0.0,) * 3, (1.0,) * 3)) == place  # a little smaller


def test_a_batch_is_float32_whatever_is_torchs_default():
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    torch.set_default_dtype(torch.float64)
    try:
        assert normalized(images, (0.0,) * 3, (1.0,) * 3).dtype == torch.float32
        assert normalized(images[:1], (0.0,) * 3, (1.0,) * 3).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
