"""The random numbers of a step belong to (seed, step, rank) alone."""

from types import SimpleNamespace

import torch

from cnnbench.tasks import ClassificationTask
from cnnbench.tasks.optimization import SEEDS_AT_A_TIME


def seeds(steps, seed=0, rank=0):
    """Torch's seed in each of these steps."""
    task = ClassificationTask("lenet5", num_classes=10, in_chans=1)
    task._seed, task._rank = seed, rank
    total = SimpleNamespace()
    loop = SimpleNamespace(batch_progress=SimpleNamespace(total=total))
    task._trainer = SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=loop))
    found = []
    for step in steps:
        total.ready = step + 1
        task.on_train_batch_start(None, 0)
        found.append(torch.initial_seed())
    return found


def test_each_step_of_each_process_and_run_has_its_own():
    steps = range(2 * SEEDS_AT_A_TIME + 5)
    drawn = [*seeds(steps), *seeds(steps, rank=1), *seeds(steps, seed=1)]
    assert len(set(drawn)) == 3 * len(steps)


def test_a_resumed_run_has_those_that_it_would_have_had():
    steps = range(3 * SEEDS_AT_A_TIME)
    assert seeds(steps[SEEDS_AT_A_TIME + 7 :]) == seeds(steps)[SEEDS_AT_A_TIME + 7 :]
