"""What every data module of cnnbench is: datasets by split, exact samplers, batches finished on device."""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.fabric.utilities.seed import pl_worker_init_function
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cnnbench.data import checks
from cnnbench.data.pixels import normalized
from cnnbench.data.samplers import EvalSampler, TrainSampler, owner
from cnnbench.errors import UserError

Batch = dict[str, Tensor]


class ImageDataModule(LightningDataModule, ABC):
    """Images, with one label each unless a subclass tells what else is known of them.

    A batch is a dict of `image` (B, C, H, W), `label` int64 (B,) and `index` int64 (B,), the place in the
    split's dataset; batches of images without labels have no `label`. Images are uint8 until they are on the
    device, where `on_after_batch_transfer` augments the training images and makes all of them normalised
    float32. Training batches carry `key`, int64 (B,), until then: what decides each sample's augmentation in
    this epoch.

    Training drops the last, smaller batch of an epoch, unless it is the only one: BatchNorm fails on a batch
    of one sample, and other samples are left out in the next epoch. Evaluation visits every sample once. Where its
    batches do not go round among several processes, some run one that another counts, so that all take the same
    number of steps: it carries `repeated`, and `counted` tells what of a batch is to be counted.

    Attributes:
        num_classes: Number of classes.
        class_names: Their names, in the order of the labels.
        in_chans: Channels of an image.
        image_size: Height and width of an image.
        mean: One number a channel, of pixels in 0..1.
        std: The same.
        interpolation: How evaluation brings images to `image_size`.
        crop_pct: The part of the shorter side that evaluation keeps; more than 1 adds a black border.

    Args:
        batch_size: Images a process and step.
        image_size: Height and width that images are brought to.
        num_workers: Processes that load images; 0 loads them in the main process.
        in_chans: 1 for grey images, 3 for RGB; images of the other kind are converted.
    """

    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation = "bilinear"
    crop_pct = 1.0

    def __init__(self, batch_size: int, image_size: int, num_workers: int, in_chans: int) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # those of the subclass, which checkpoints record
        checks.at_least("batch_size", batch_size, 1)
        checks.at_least("image_size", image_size, 1)
        checks.at_least("num_workers", num_workers, 0)
        checks.one_of("in_chans", in_chans, (1, 3))
        self.batch_size = batch_size
        self.image_size = image_size
        self.num_workers = num_workers
        self.in_chans = in_chans
        self.datasets: dict[str, Dataset] = {}  # by split: train, val, test, predict

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def has_test(self) -> bool:
        """Whether there are test images."""
        return True

    @abstractmethod
    def setup(self, stage: str = "fit") -> None:
        """Put into `datasets` what a stage, `fit`, `validate`, `test` or `predict`, needs."""

    def index_name(self, split: str, index: int) -> str:
        """Return what a user calls a sample.

        Args:
            split: `train`, `val`, `test` or `predict`.
            index: From a batch of that split.

        Returns:
            The image's path, or where images are not files the index as text.
        """
        return str(int(index))

    def train_dataloader(self) -> DataLoader:
        """Return the shuffled, augmented training images."""
        dataset = self.datasets["train"]
        if self.batch_size > len(dataset):
            raise UserError(f"batch_size is {self.batch_size}: the training set has {len(dataset)} images")
        sampler = TrainSampler(dataset, *self._processes(), seed=_run_seed(), used=self._used_samples)
        return self._loader(dataset, sampler, drop_last=len(sampler) >= self.batch_size)

    def val_dataloader(self) -> DataLoader:
        """Return the validation images, in order."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader:
        """Return the test images, in order."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader:
        """Return the images to predict, in order."""
        return self._eval_loader("predict")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch; Lightning's own walk through collections of any kind takes longer than a small step."""
        here = batch  # as the loader puts it together, on the CPU
        if device.type != "cpu":
            here = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        return here | {"repeated": torch.tensor(True)} if self._is_repeated(batch) else here

    def _is_repeated(self, batch: Batch) -> bool:
        """Return whether another process counts this batch, which is still where the loader put it: on the CPU."""
        if "key" in batch:  # in training each batch is of one process
            return False
        processes, rank = self._processes()
        first = batch["index"][:1].tolist()  # images that could not be read may be missing
        return any(owner(index, self.batch_size, processes) != rank for index in first)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment a training batch, and normalise any batch, on its device and in the trainer's precision."""
        images = batch["image"]
        if "key" in batch:
            images = self.augmented(images, batch["key"])
        images = normalized(images, self.mean, self.std)
        if self.trainer is not None:
            images = self.trainer.precision_plugin.convert_input(images)
        return {name: value for name, value in batch.items() if name != "key"} | {"image": images}

    def augmented(self, images: Tensor, keys: Tensor) -> Tensor:
        """Return uint8 training images (B, C, H, W) varied by their keys (B,); here, as they are."""
        return images

    def _eval_loader(self, split: str) -> DataLoader:
        dataset = self.datasets[split]
        return self._loader(dataset, EvalSampler(dataset, self.batch_size, *self._processes()))

    def _loader(self, dataset: Dataset, sampler: Sampler, drop_last: bool = False) -> DataLoader:
        collate: Callable[[Any], Batch] | None = getattr(dataset, "collate", None)
        return _PunctualLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(_run_seed()),  # leaves the global generator to the model
            worker_init_fn=_begin_worker,
        )

    def _used_samples(self) -> int:
        """Return how many samples of the running epoch this process has trained on; outside of training none."""
        if self.trainer is None or not self.trainer.training:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready * self.batch_size

    def _processes(self) -> tuple[int, int]:
        """Return (number of processes, this one's rank)."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)


class _PunctualLoader(DataLoader):
    """Asks its sampler for the order when the first batch is wanted.

    Lightning makes the iterator of a resumed run before it tells the sampler the epoch, and worker processes would
    begin on batches of another one.
    """

    def __iter__(self) -> Iterator[Batch]:
        yield from super().__iter__()


def _begin_worker(worker_id: int) -> None:
    """Leave Ctrl-C to the main process, which saves before the next batch; seed as Lightning's own function does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if int(os.environ.get("PL_SEED_WORKERS", 0)):
        pl_worker_init_function(worker_id)


def counted(batch: Batch) -> slice:
    """Return the rows of an evaluated batch that count: all, or none where another process counts them."""
    return slice(0 if "repeated" in batch else None)


def _run_seed() -> int:
    return int(os.environ.get("PL_GLOBAL_SEED", 0))  # as Lightning's own distributed sampler takes it
