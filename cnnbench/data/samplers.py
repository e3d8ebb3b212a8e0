"""The order of samples in training and in evaluation, on one process or many."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

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
        used: Tells how many samples of the epoch this process has used already: a run that was resumed within the
            epoch goes on behind them.
    """

    def __init__(
        self,
        dataset: Dataset,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        used: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)
        self.used = used

    def __iter__(self) -> Iterator[tuple[int, int]]:
        indices = list(super().__iter__())[self.used() :]
        own = torch.from_numpy(np.fromiter(indices, np.int64, len(indices)))  # a third of the time of torch.tensor
        keys = sample_keys(self.seed, self.epoch, own)
        return zip(indices, keys.tolist(), strict=True)


class EvalSampler(DistributedSampler):
    """Visits every sample in order and deals out whole batches, the same number of them to each process.

    Process r of n takes the batches r, r + n, r + 2n, … of the one process that would do it alone. A batch is
    then computed in the same company whatever the number of processes, and every figure of a sample is the same
    to the last bit; dealing out single samples, as other samplers do, changes the last digits.

    Where the batches do not go round, a process that would have one less repeats the first: a process that left the
    others alone in what they do together would halt them. `owner` tells whose each sample is.

    Args:
        dataset: What is sampled; only its length matters.
        batch_size: Of the loader.
        num_replicas: Number of processes.
        rank: This process.
    """

    def __init__(self, dataset: Dataset, batch_size: int, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=False)
        starts = range(0, len(dataset), batch_size)
        own = [*starts[rank::num_replicas]]
        if len(own) < math.ceil(len(starts) / num_replicas):
            own.append(0)
        self.indices = [i for start in own for i in range(start, min(start + batch_size, len(dataset)))]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def owner(index: int, batch_size: int, num_replicas: int) -> int:
    """Return the process that counts a sample which `EvalSampler` hands out."""
    return index // batch_size % num_replicas


def index_and_key(items: Sequence[int] | Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor | None]:
    """Return what a sampler handed out for a batch as int64 (B,) each: indices, and keys, None outside training."""
    if not isinstance(items[0], tuple):
        return torch.tensor(items, dtype=torch.int64), None
    # a fifth of the time of torch.tensor(items)
    pairs = np.fromiter(chain.from_iterable(items), np.int64, 2 * len(items)).reshape(-1, 2)
    index, key = torch.from_numpy(pairs.T.copy())
    return index, key
