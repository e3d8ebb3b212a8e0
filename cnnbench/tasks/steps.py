"""Optimiser steps of a run: how many images each sees, and whether an epoch is a whole number of them."""

import math

from lightning.pytorch import Trainer

from cnnbench.errors import UserError


def images_per_step(trainer: Trainer) -> int:
    """Return the training images of an optimiser step, over all processes and accumulated batches."""
    loader = trainer.train_dataloader
    batch = min(loader.batch_size, len(loader.sampler))  # a process may have less than a batch
    return batch * trainer.world_size * trainer.accumulate_grad_batches


def epochs_of(trainer: Trainer) -> int:
    """Return how many epochs a run has, the last perhaps ended early by `max_steps`."""
    batches = trainer.estimated_stepping_batches * trainer.accumulate_grad_batches
    return math.ceil(batches / trainer.num_training_batches)


def check_whole_steps(trainer: Trainer) -> None:
    """Refuse an epoch whose last step would be of fewer batches, and its gradient smaller by as much.

    Raises:
        UserError: Naming the nearest number of batches that divides those of an epoch.
    """
    batches, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
    if batches == float("inf") or batches % accumulated == 0:
        return
    rest = batches % accumulated
    divisors = (number for number in range(1, batches + 1) if batches % number == 0)
    nearest = min(divisors, key=lambda number: abs(number - accumulated))
    fewer = f", or --trainer.limit_train_batches {batches - rest}" if rest < batches else ""
    raise UserError(
        f"trainer.accumulate_grad_batches is {accumulated}: it does not divide the {batches} batches of an epoch, "
        f"whose last step would be of {rest}; take {nearest}{fewer}"
    )
