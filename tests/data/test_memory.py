import gzip
import pickle
import shutil

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from cnnbench.data import CIFAR10DataModule, CIFAR100DataModule, DigitsDataModule, MNISTDataModule
from cnnbench.data.views import EvalView
from cnnbench.errors import UserError


def ready(module):
    module.prepare_data()
    module.setup("fit")
    return module


def test_digits_are_split_without_overlap_evenly_over_classes_and_always_alike():
    data = ready(DigitsDataModule(image_size=8))
    sizes = {split: len(data.datasets[split]) for split in ("train", "val", "test")}
    assert sizes == {"train": 1257, "val": 270, "test": 270}

    originals = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    got = torch.cat([data.datasets[split].images for split in sizes]).squeeze(1).numpy()
    assert sorted(map(bytes, got)) == sorted(map(bytes, originals))  # each digit once, and unharmed
    for split in sizes:
        counts = data.datasets[split].labels.bincount()
        assert (counts / counts.sum() - torch.from_numpy(np.bincount(load_digits().target)) / 1797).abs().max() < 0.004

    torch.manual_seed(5)
    again = ready(DigitsDataModule(image_size=8))
    assert all(torch.equal(again.datasets[s].images, data.datasets[s].images) for s in sizes)


def test_digits_keep_their_labels_and_know_their_statistics():
    data = ready(DigitsDataModule())
    train = data.datasets["train"].images.double() / 255
    assert data.mean == pytest.approx([train.mean().item()], abs=1e-3)
    assert data.std == pytest.approx([train.std().item()], abs=1e-3)
    assert (data.num_classes, data.in_chans, data.class_names) == (10, 1, tuple("0123456789"))

    small = ready(DigitsDataModule(image_size=8))
    by_pixels = {
        bytes(np.rint(x * 255 / 16).astype(np.uint8)): y for x, y in zip(*load_digits(return_X_y=True), strict=True)
    }
    for image, label in zip(small.datasets["test"].images, small.datasets["test"].labels, strict=True):
        assert by_pixels[bytes(image.numpy())] == label


def test_some_digits_are_labelled_anew_in_the_order_given():
    data = ready(DigitsDataModule(image_size=8, classes=[7, 5, 6]))
    every = ready(DigitsDataModule(image_size=8))
    assert (data.num_classes, data.class_names) == (3, ("7", "5", "6"))
    for split in ("train", "val", "test"):
        theirs = every.datasets[split]
        kept = [(bytes(image.numpy()), (7, 5, 6).index(y)) for image, y in pairs(theirs) if y in (5, 6, 7)]
        assert [(bytes(image.numpy()), y) for image, y in pairs(data.datasets[split])] == kept


def test_few_digits_of_each_class_are_the_same_ones_and_among_the_more():
    few, more, every = (
        ready(DigitsDataModule(image_size=8, classes=[5, 6], images_per_class=count)) for count in (3, 10, None)
    )
    assert few.datasets["train"].labels.bincount().tolist() == [3, 3]
    assert more.datasets["train"].labels.bincount().tolist() == [10, 10]
    chosen = [{(bytes(image.numpy()), y) for image, y in pairs(d.datasets["train"])} for d in (few, more, every)]
    assert chosen[0] < chosen[1] < chosen[2]
    for split in ("val", "test"):
        assert torch.equal(few.datasets[split].images, every.datasets[split].images)
    torch.manual_seed(9)
    again = ready(DigitsDataModule(image_size=8, classes=[5, 6], images_per_class=3))
    assert torch.equal(again.datasets["train"].images, few.datasets["train"].images)


def pairs(dataset):
    return zip(dataset.images, dataset.labels.tolist(), strict=True)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"classes": [3]}, "classes are [3]: name at least two digits"),
        ({"classes": [3, 3]}, "each from 0 to 9 and once"),
        ({"classes": [3, 10]}, "each from 0 to 9 and once"),
        ({"images_per_class": 0}, "images_per_class is 0: it must be at least 1"),
        ({"images_per_class": 500}, "images_per_class is 500: class '0' has 124 training images"),
    ],
)
def test_wrong_choices_of_digits_are_named(options, named):
    with pytest.raises(UserError) as error:
        ready(DigitsDataModule(**options))
    assert named in str(error.value)


def test_mnist_is_what_torchvision_reads_from_the_same_files(mnist):
    root, _ = mnist
    data = ready(MNISTDataModule(root=str(root), download=False, val_size=20, image_size=28))
    for file in (root / "MNIST/raw").iterdir():
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
    theirs = torchvision.datasets.MNIST(root, train=False)
    assert torch.equal(data.datasets["test"].images[:, 0], theirs.data)
    assert torch.equal(data.datasets["test"].labels, theirs.targets)
    assert {s: len(d) for s, d in data.datasets.items()} == {
        "train": 80,
        "val": 20,
        "test": 37,
        "predict": 37,
    }
    assert data.datasets["val"].labels.bincount().tolist() == [2] * 10
    held_out = set(map(bytes, data.datasets["val"].images.numpy()))
    assert held_out.isdisjoint(map(bytes, data.datasets["train"].images.numpy()))


def test_mnist_is_read_from_plain_files_at_the_root_and_padded(mnist):
    root, arrays = mnist
    for file in (root / "MNIST/raw").iterdir():
        (root / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    shutil.rmtree(root / "MNIST")
    test = ready(MNISTDataModule(root=str(root), val_size=20, in_chans=3)).datasets["test"].images
    assert test.shape == (37, 3, 32, 32)
    assert np.array_equal(test[:, 1, 2:-2, 2:-2], arrays["t10k"][0])
    assert test.sum() == 3 * arrays["t10k"][0].sum(dtype=np.int64)


@pytest.mark.parametrize("image_size", [28, 29, 30, 31, 32])
def test_a_file_is_given_the_border_of_mnist(mnist, tmp_path, image_size):
    """A model of MNIST sees an image file as it sees the set, by the set's normalisation alone."""
    root, arrays = mnist
    data = ready(MNISTDataModule(root=str(root), val_size=20, image_size=image_size))
    Image.fromarray(arrays["t10k"][0][0]).save(tmp_path / "digit.png")
    view = EvalView(image_size, 1, data.interpolation, data.crop_pct)
    assert torch.equal(view(tmp_path / "digit.png"), data.datasets["test"].images[0])


def test_cifar10_is_what_was_written(cifar10):
    root, images, labels = cifar10
    data = ready(CIFAR10DataModule(root=str(root), val_size=10))
    assert np.array_equal(data.datasets["test"].images, images[100:])
    assert np.array_equal(data.datasets["test"].labels, labels[100:])
    train = {bytes(image): label for image, label in zip(images[:100], labels[:100], strict=True)}
    for split in ("train", "val"):
        for image, label in zip(data.datasets[split].images, data.datasets[split].labels, strict=True):
            assert train.pop(bytes(image.numpy())) == label
    assert not train


def test_cifar100_reads_fine_labels(cifar100):
    root, _, labels = cifar100
    data = ready(CIFAR100DataModule(root=str(root), val_size=100))
    assert np.array_equal(data.datasets["test"].labels, labels)
    assert data.num_classes == 100
    assert data.class_names == tuple(sorted(data.class_names))  # as in the official file


def test_grey_cifar_is_pils_luminance(cifar10):
    root, images, _ = cifar10
    grey = ready(CIFAR10DataModule(root=str(root), val_size=10, in_chans=1)).datasets["test"].images
    colour = torchvision.transforms.functional.to_pil_image(torch.from_numpy(images[100]))
    assert np.abs(grey[0, 0].numpy().astype(int) - np.asarray(colour.convert("L")).astype(int)).max() <= 1


def test_evaluation_batches_are_normalised_and_not_augmented(cifar10):
    root, images, _ = cifar10
    data = ready(CIFAR10DataModule(root=str(root), val_size=10, batch_size=8))
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    pixels = torch.cat([batch["image"] for batch in batches])
    expected = torchvision.transforms.functional.normalize(torch.from_numpy(images[100:]) / 255, data.mean, data.std)
    torch.testing.assert_close(pixels, expected, atol=1e-6, rtol=1e-5)
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(20))
    assert set(batches[0]) == {"image", "label", "index"}


class Recorder:
    """What a hostile batch would run."""

    def __reduce__(self):
        return eval, ("1 + 1",)


def test_a_cifar_file_cannot_run_code(cifar10):
    root, _, _ = cifar10
    file = root / "cifar-10-batches-py/data_batch_3"
    file.write_bytes(pickle.dumps({"data": Recorder(), "labels": []}))
    with pytest.raises(UserError, match=r"data_batch_3 is damaged: it asks for builtins\.eval"):
        ready(CIFAR10DataModule(root=str(root)))


@pytest.mark.parametrize("harm", [lambda b: b[:-100], lambda b: b"", lambda b: b"<html>" + b])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_a_damaged_mnist_file_is_named(mnist, harm, name):
    root, _ = mnist
    file = root / "MNIST/raw" / name
    file.write_bytes(harm(file.read_bytes())[:-20])
    with pytest.raises(UserError, match=f"{name} is damaged"):
        ready(MNISTDataModule(root=str(root), val_size=20))


def test_a_truncated_cifar_file_is_named(cifar10):
    root, _, _ = cifar10
    file = root / "cifar-10-batches-py/test_batch"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match="test_batch is damaged"):
        ready(CIFAR10DataModule(root=str(root), val_size=10))


@pytest.mark.parametrize("module", [MNISTDataModule, CIFAR10DataModule, CIFAR100DataModule])
def test_missing_data_names_the_folders_looked_in(module, tmp_path):
    with pytest.raises(UserError) as error:
        ready(module(root=str(tmp_path / "nowhere"), download=False))
    assert str(tmp_path / "nowhere" / module.folders[0]) in str(error.value)
    assert module.train_files[0] in str(error.value)
    assert "download" in str(error.value)


@pytest.mark.parametrize("module", [MNISTDataModule, CIFAR10DataModule])
def test_a_failed_download_is_the_users_to_mend(module, tmp_path, monkeypatch, capsys):
    def offline(*args, **kwargs):
        raise OSError("<urlopen error no route to host>")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(UserError, match="no route to host"):
        ready(module(root=str(tmp_path)))
    assert capsys.readouterr().out == f"downloading {module.title} to {tmp_path}\n"
