"""The random numbers of the process: seeded for a comparison, and left as they were found."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed whatever a network may draw from: torch, Python and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed whatever a network may draw from, and leave all of it as it was found.

    Args:
        seed: Of the block.
        device: Whose generator is used beside the processor's.
    """
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed_everything(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
