"""The order of samples in training and in evaluation, on one process or many."""

from collections.abc import Iterator

import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import Dataset, DistributedSampler, Sampler, SequentialSampler

from cnnbench.data.draws import sample_keys


class TrainSampler(DistributedSampler):
    """Shuffles anew each epoch and hands each index out with its sample's key, `(index, key)`.

    Order and keys are functions of (seed, epoch) alone. The key travels with the index into worker processes,
    which therefore need not know the epoch, and which augment the same whatever their number. Lightning
    leaves a `DistributedSampler` where it is, on one process too, and tells it the epoch.

    Args:
        dataset: What is sampled; only its length matters.
        num_replicas: Number of processes.
        rank: This process.
        seed: The run's seed.
    """

    def __init__(self, dataset: Dataset, num_replicas: int = 1, rank: int = 0, seed: int = 0) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        indices = list(super().__iter__())
        keys = sample_keys(self.seed, self.epoch, torch.tensor(indices, dtype=torch.int64))
        return zip(indices, keys.tolist(), strict=True)


def eval_sampler(dataset: Dataset, num_replicas: int = 1, rank: int = 0) -> Sampler[int]:
    """Return the sampler that visits every sample exactly once, in order, over all processes together."""
    if num_replicas == 1:
        return SequentialSampler(dataset)
    return UnrepeatedDistributedSampler(dataset, shuffle=False, num_replicas=num_replicas, rank=rank)


def split_key(item: int | tuple[int, int]) -> tuple[int, int | None]:
    """Return (index, key) of what a sampler hands out; the key is None outside training."""
    return item if isinstance(item, tuple) else (int(item), None)
