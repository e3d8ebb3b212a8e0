"""How fast the in-memory pipeline is beside torchvision's per-sample one: crop, flip, normalise.

    python -m cnnbench.data.benchmark

Both pipelines load the same random images of CIFAR's size through a DataLoader in this process, on one core.
Each pair is timed in random order, and the median of the pairs' ratios is printed with its bootstrap 95 %
interval, and beside it that of ours against itself: the resolution of this machine.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cnnbench.data.cifar import CIFAR10DataModule
from cnnbench.data.memory import MemoryDataset
from cnnbench.statistics import median_interval

Pipeline = Callable[[], Iterator[Tensor]]
"""Starts an epoch and yields its batches, float32 (B, 3, 32, 32)."""


class _PerSample(Dataset):
    """As torchvision's CIFAR10 with the customary transforms."""

    def __init__(self, images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.images = images  # (N, H, W, C)
        steps = [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
        self.transform = transforms.Compose([*steps, transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.fromarray(self.images[index]))


def pipelines(num_images: int, batch_size: int) -> tuple[Pipeline, Pipeline]:
    """Return (ours, torchvision's) over the same images."""
    images = torch.randint(0, 256, (num_images, 3, 32, 32), dtype=torch.uint8)
    data = CIFAR10DataModule(batch_size=batch_size)
    data.datasets["train"] = MemoryDataset(images, torch.zeros(num_images, dtype=torch.int64))
    per_sample = _PerSample(images.permute(0, 2, 3, 1).contiguous().numpy(), data.mean, data.std)
    theirs = DataLoader(per_sample, batch_size, shuffle=True, drop_last=True)
    ours = data.train_dataloader()
    finish = data.on_after_batch_transfer
    return lambda: (finish(batch, 0)["image"] for batch in ours), lambda: iter(theirs)


def rate(pipeline: Pipeline) -> float:
    """Return the images a second of one epoch."""
    start = time.perf_counter()
    images = sum(len(batch) for batch in pipeline())
    return images / (time.perf_counter() - start)


def compare(one: Pipeline, other: Pipeline, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Time two pipelines `pairs` times, each pair in random order: their images a second."""
    rates = np.empty((pairs, 2))
    for pair in rates:
        for side in random.sample((0, 1), 2):
            pair[side] = rate((one, other)[side])
    return rates[:, 0], rates[:, 1]


def main() -> None:
    """Time, and print what was measured and where."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4096, help="images an epoch (default: 4096)")
    parser.add_argument("--batch-size", type=int, default=128, help="images a batch (default: 128)")
    parser.add_argument("--pairs", type=int, default=15, help="epochs of each pipeline (default: 15)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ours, theirs = pipelines(args.images, args.batch_size)
    compare(ours, theirs, 2)  # warms up
    print(f"torch {torch.__version__}, 1 thread, {args.images} images in batches of {args.batch_size}")
    for name, other in (("torchvision per sample", theirs), ("ours (control)", ours)):
        rates, other_rates = compare(ours, other, args.pairs)
        low, high = median_interval(rates / other_rates)
        print(
            f"ours {np.median(rates):,.0f} img/s, {name} {np.median(other_rates):,.0f} img/s: "
            f"{np.median(rates / other_rates):.2f} times [{low:.2f}, {high:.2f}]"
        )


if __name__ == "__main__":
    main()
