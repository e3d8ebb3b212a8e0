"""The pipelines that `bench-data` measures: ours, torchvision's and timm's customary ones for training."""

import random
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_dataset, create_loader, create_transform
from timm.data.loader import PrefetchLoader, fast_collate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import transforms
from torchvision.datasets import ImageFolder

from cnnbench.data.benchmark import Clock, Pipeline
from cnnbench.data.cifar import CIFAR10DataModule
from cnnbench.data.decoders import in_memory
from cnnbench.data.draws import sample_keys
from cnnbench.data.folder import ImageFolderDataModule
from cnnbench.data.memory import MemoryDataset


def folder_stages(data: ImageFolderDataModule, files: list[Path], device: torch.device) -> dict[str, Pipeline]:
    """Return the three pipelines over one batch of image files, stage by stage.

    `transfer` has the normalisation where the pipeline does it on the device: in ours and in timm's.

    Args:
        data: Set up to fit; its training view and statistics are ours.
        files: The batch.
        device: Where the batch goes.
    """
    return {
        "ours": _Ours(data, files, device),
        "torchvision": _Torchvision(data, files, device),
        "timm": _Timm(data, files, device),
    }


def folder_loaders(data: ImageFolderDataModule, device: torch.device) -> dict[str, Pipeline]:
    """Return an epoch of each one's own loader over `root/train`, in this process."""
    size, interpolation = data.image_size, data.interpolation
    train = data.root / "train"
    theirs = create_loader(
        create_dataset("", root=str(train), is_training=True),
        input_size=(3, size, size),
        batch_size=data.batch_size,
        is_training=True,
        color_jitter=data.augmentation.color_jitter or None,
        interpolation=interpolation,
        mean=data.mean,
        std=data.std,
        num_workers=0,
        persistent_workers=False,
        device=device,
    )
    images = ImageFolder(str(train), transforms.Compose(_torchvision_steps(data)))
    customary = DataLoader(images, data.batch_size, shuffle=True, drop_last=True)
    return {
        "ours": lambda clock: _epoch(_on_device(data, device), clock),
        "torchvision": lambda clock: _epoch((images.to(device) for images, _ in customary), clock),
        "timm": lambda clock: _epoch((images for images, _ in theirs), clock),
    }


def memory_loaders(num_images: int, batch_size: int, device: torch.device) -> dict[str, Pipeline]:
    """Return an epoch of ours and of torchvision's over the same random images of CIFAR's size."""
    images = torch.randint(0, 256, (num_images, 3, 32, 32), dtype=torch.uint8)
    data = CIFAR10DataModule(batch_size=batch_size)
    data.datasets["train"] = MemoryDataset(images, torch.zeros(num_images, dtype=torch.int64))
    per_sample = _PerSample(images.permute(0, 2, 3, 1).contiguous().numpy(), data.mean, data.std)
    theirs = DataLoader(per_sample, batch_size, shuffle=True, drop_last=True)
    return {
        "ours": lambda clock: _epoch(_on_device(data, device), clock),
        "torchvision": lambda clock: _epoch((batch.to(device) for batch in theirs), clock),
    }


def _on_device(data: ImageFolderDataModule | CIFAR10DataModule, device: torch.device) -> Iterator[Tensor]:
    for batch in data.train_dataloader():
        yield data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device, 0), 0)["image"]


def _epoch(batches: Iterator[Tensor], clock: Clock) -> int:
    images = 0
    for batch in batches:
        images += len(batch)
    if batch.device.type != "cpu":
        torch.accelerator.synchronize()
    clock("loader")
    return images


class _Stages:
    """One batch of files, stage by stage."""

    def __init__(self, data: ImageFolderDataModule, files: list[Path], device: torch.device) -> None:
        self.data, self.files, self.device = data, files, device

    def __call__(self, clock: Clock) -> int:
        samples = [self.sample(place, file.read_bytes(), clock) for place, file in enumerate(self.files)]
        batch = self.collate(samples)
        clock("collate")
        self.transfer(batch)
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        clock("transfer")
        return len(self.files)


class _Ours(_Stages):
    def __init__(self, data: ImageFolderDataModule, files: list[Path], device: torch.device) -> None:
        super().__init__(data, files, device)
        self.view = data.datasets["train"].view
        self.keys = sample_keys(0, 0, torch.arange(len(files)))

    def sample(self, place: int, content: bytes, clock: Clock) -> Tensor:
        clock("read")
        rng = random.Random(place)
        with in_memory(content, self.view.decoder) as file:
            pixels = self.view.decoded(file, rng)
        clock("decode")
        pixels = self.view.brought_to_size(pixels)
        clock("crop")
        pixels = self.view.varied(pixels, rng)
        clock("augment")
        return pixels

    def collate(self, samples: list[Tensor]) -> dict[str, Tensor]:
        images = self.data.datasets["train"].room_for(len(samples))
        for place, pixels in enumerate(samples):
            images[place] = pixels
        return {"image": images, "key": self.keys}

    def transfer(self, batch: dict[str, Tensor]) -> None:
        self.data.on_after_batch_transfer(self.data.transfer_batch_to_device(batch, self.device, 0), 0)


def _torchvision_steps(data: ImageFolderDataModule) -> list[Callable[[Any], Any]]:
    """Return the random crop, and what follows it."""
    jitter = data.augmentation.color_jitter
    return [
        transforms.RandomResizedCrop(data.image_size, interpolation=transforms.InterpolationMode(data.interpolation)),
        transforms.RandomHorizontalFlip(),
        *([transforms.ColorJitter(jitter, jitter, jitter)] if jitter else []),
        transforms.ToTensor(),
        transforms.Normalize(data.mean, data.std),
    ]


def _by_pil(content: bytes, crop: Callable[[Any], Any], vary: Callable[[Any], Any], clock: Clock) -> Any:
    """Make a sample as torchvision's and timm's loaders do."""
    clock("read")
    image = Image.open(BytesIO(content)).convert("RGB")
    clock("decode")
    image = crop(image)
    clock("crop")
    pixels = vary(image)
    clock("augment")
    return pixels


class _Torchvision(_Stages):
    def __init__(self, data: ImageFolderDataModule, files: list[Path], device: torch.device) -> None:
        super().__init__(data, files, device)
        self.crop, *rest = _torchvision_steps(data)
        self.vary = transforms.Compose(rest)

    def sample(self, place: int, content: bytes, clock: Clock) -> Tensor:
        return _by_pil(content, self.crop, self.vary, clock)

    def collate(self, samples: list[Tensor]) -> Tensor:
        return default_collate(samples)

    def transfer(self, batch: Tensor) -> None:
        batch.to(self.device)


class _Timm(_Stages):
    def __init__(self, data: ImageFolderDataModule, files: list[Path], device: torch.device) -> None:
        super().__init__(data, files, device)
        settings = {"color_jitter": data.augmentation.color_jitter or None, "interpolation": data.interpolation}
        steps = create_transform(data.image_size, is_training=True, use_prefetcher=True, **settings)
        self.crop, *rest = steps.transforms
        self.vary = transforms.Compose(rest)

    def sample(self, place: int, content: bytes, clock: Clock) -> tuple[Tensor, int]:
        return _by_pil(content, self.crop, self.vary, clock), 0

    def collate(self, samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        return fast_collate(samples)

    def transfer(self, batch: tuple[Tensor, Tensor]) -> None:
        next(iter(PrefetchLoader([batch], mean=self.data.mean, std=self.data.std, device=self.device)))


class _PerSample(Dataset):
    """As torchvision's CIFAR10 with the customary transforms."""

    def __init__(self, images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.images = images  # (N, H, W, C)
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        self.transform = transforms.Compose([*steps, transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.fromarray(self.images[index]))
