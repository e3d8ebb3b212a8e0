"""Lightning's loop over the batches of an epoch, without the calls of it that do nothing.

In each step Lightning calls some twenty hooks of every callback, of the task and of the strategy, most of which are
the empty ones that they inherit, and makes for each a name, a context and a line for the debug log. That takes longer
than the step of a small network. Here the hooks that somebody has written are found once an epoch, and only these are
called: in Lightning's order, with its arguments and under its names. How a batch is counted, validated after, saved
and logged stays Lightning's own, and so does all of a run that has a profiler, optimises by hand, or whose steps take
the iterator of the loader.
"""

from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loops.fetchers import (
    _DataFetcher,
    _DataLoaderIterDataFetcher,
    _PrefetchDataFetcher,
    _profile_nothing,
)
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultCollection, _ResultMetric
from lightning.pytorch.utilities.combined_loader import _MaxSizeCycle

from cnnbench.callbacks.profile import NoProfiler
from cnnbench.tasks.lean_optimization import LeanOptimization
from cnnbench.tasks.written_hooks import WrittenHooks


def use_lean_loop(trainer: Trainer) -> None:
    """Let a Trainer that has not begun train by the loop of this module, and time nothing unless it is asked to."""
    if type(trainer.profiler) is PassThroughProfiler:
        trainer.profiler = NoProfiler()
    former = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = LeanEpochLoop(trainer, former.min_steps, former.max_steps)


class LeanEpochLoop(_TrainingEpochLoop):
    """The loop over the batches of an epoch, which calls the hooks that somebody has written."""

    _hooks: WrittenHooks | None = None  # None: the running epoch is Lightning's
    _batches: Iterator[Any] | None = None  # None: several loaders, an unknown number of batches, no epoch

    def __init__(self, trainer: Trainer, min_steps: int | None = None, max_steps: int = -1) -> None:
        super().__init__(trainer, min_steps, max_steps)
        self.automatic_optimization = LeanOptimization(trainer)
        self._results = _LeanResults(training=True)

    def run(self, data_fetcher: _DataFetcher) -> None:
        """Train on the batches of an epoch."""
        usual = isinstance(self.trainer.profiler, PassThroughProfiler)
        usual &= self.trainer.lightning_module.automatic_optimization
        if not usual or isinstance(data_fetcher, _DataLoaderIterDataFetcher):
            super().run(data_fetcher)
            return
        self._hooks = self.automatic_optimization.hooks = WrittenHooks(self.trainer)
        self._has_plateaus = any(config.reduce_on_plateau for config in self.trainer.lr_scheduler_configs)
        self._results.has_news = True
        try:
            super().run(data_fetcher)
        finally:
            self._hooks = self.automatic_optimization.hooks = self._batches = None

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train on a batch.

        Raises:
            StopIteration: The task's `on_train_batch_start` has ended the epoch.
        """
        if self._hooks is None or self.restarting:
            super().advance(data_fetcher)
            return
        trainer, hooks, progress = self.trainer, self._hooks, self.batch_progress
        if self.val_loop.restarting:
            self.val_loop.restarting = False
        if hooks.ask_for_sigterm:
            self._broadcast_sigterm_tensor()
        batch = self._fetched(data_fetcher)
        batch_idx = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        batch = hooks.on_device(batch)
        progress.increment_ready()
        self._begin_logging(batch)
        ends, outputs = self._train_on(batch, batch_idx)
        progress.increment_processed()
        self.update_lr_schedulers("step", update_plateau_schedulers=False)
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        if ends:
            raise StopIteration
        hooks.of_both("on_train_batch_end", outputs, batch, batch_idx)
        self._publish()
        progress.increment_completed()
        every = trainer.log_every_n_steps
        if trainer.should_stop or trainer.fast_dev_run or (every and (self._batches_that_stepped + 1) % every == 0):
            trainer._logger_connector.update_train_step_metrics()

    def _fetched(self, data_fetcher: _DataFetcher) -> Any:
        """Return the next batch: of the only loader, or of Lightning's, which brings those of several together."""
        if self._batches is None:
            return next(data_fetcher)[0]
        try:
            batch = next(self._batches)
        except StopIteration:
            data_fetcher.done = True
            raise
        data_fetcher.fetched += 1
        data_fetcher.done = data_fetcher.fetched >= data_fetcher.length
        return batch

    def _train_on(self, batch: Any, batch_idx: int) -> tuple[bool, dict[str, Any] | None]:
        """Return whether the epoch ends before this batch, and what its step puts out."""
        if batch is None:
            self._warning_cache.warn("the training data has a batch that is None, which is left out")
            return False, None
        if self._hooks.on_train_batch_start(batch, batch_idx) == -1:
            self.batch_progress.increment_by(0, is_last_batch=True)
            return True, None
        self.batch_progress.increment_started()
        arguments = OrderedDict(batch=batch)
        if self._hooks.step_takes_index:
            arguments["batch_idx"] = batch_idx
        return False, self.automatic_optimization.run(self.trainer.optimizers[0], batch_idx, arguments)

    def _begin_logging(self, batch: Any) -> None:
        """Do what Lightning's `on_batch_start` does, which looks up these results again for each thing."""
        connector, results = self.trainer._logger_connector, self._results
        connector._first_loop_iter = connector._first_loop_iter is None
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None

    def _publish(self) -> None:
        """Hand on what was logged since that was done last."""
        results = self._results
        if results.has_news:
            self.trainer._logger_connector.on_batch_end()
            results.has_news = False
        results.batch = results.batch_size = None

    # ------------------------------------------------------------------ what is asked for often, answered sooner

    @property
    def global_step(self) -> int:
        """Number of updates."""
        if self._hooks is None:
            return super().global_step
        return self.automatic_optimization.optim_progress.optimizer.step.total.completed

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Begin an epoch."""
        super().on_run_start(data_fetcher)
        self._batches = None
        if self._hooks is not None:
            data_fetcher._start_profiler = data_fetcher._stop_profiler = _profile_nothing
            self._batches = _only_iterator(data_fetcher)

    @property
    def done(self) -> bool:
        """Whether the epoch has ended, or training."""
        trainer, counted = self.trainer, self.batch_progress
        if self._hooks is None or self.restarting or trainer.should_stop:
            return super().done
        ended = counted.is_last_batch or counted.current.ready == trainer.num_training_batches
        return ended or -1 < self.max_steps <= self.global_step

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Validate, where it is time to."""
        trainer = self.trainer
        usual = self._hooks is not None and not (self._skip_next_val or trainer.should_stop or trainer.received_sigterm)
        if not usual or self._should_check_val_fx(data_fetcher):
            super().on_advance_end(data_fetcher)
            return
        if self._has_plateaus:
            self.update_lr_schedulers("step", update_plateau_schedulers=True)
        self._batches_that_stepped += not self._should_accumulate()

    def update_lr_schedulers(self, interval: str, update_plateau_schedulers: bool) -> None:
        """Set the learning rates, where there is a schedule of this kind."""
        for config in self.trainer.lr_scheduler_configs:
            if config.interval != interval or config.reduce_on_plateau != update_plateau_schedulers:
                continue
            if self._hooks is None or update_plateau_schedulers or interval == "epoch":
                super().update_lr_schedulers(interval, update_plateau_schedulers)
            elif not self._should_accumulate() and self.batch_progress.current.ready % config.frequency == 0:
                self.scheduler_progress.increment_ready()
                self._hooks.of_itself("lr_scheduler_step", config.scheduler, None)
                self.scheduler_progress.increment_completed()
            return  # Lightning's has one schedule where it optimises by itself

    def _should_accumulate(self) -> bool:
        return self.trainer.accumulate_grad_batches != 1 and super()._should_accumulate()

    def _should_check_val_fx(self, data_fetcher: _DataFetcher) -> bool:
        trainer, counted = self.trainer, self.batch_progress.current
        if self._hooks is not None and trainer._val_check_time_interval is None and not trainer.should_stop:
            if trainer.check_val_every_n_epoch is None:
                counted = self.batch_progress.total
            if trainer.val_check_batch != float("inf") and counted.ready % trainer.val_check_batch != 0:
                return False
        self._results.has_news = True  # a validation hands on, too
        return super()._should_check_val_fx(data_fetcher)


def _only_iterator(data_fetcher: _DataFetcher) -> Iterator[Any] | None:
    loaders = data_fetcher.combined_loader
    is_only = len(loaders.flattened) == 1 and loaders.iterables is loaders.flattened[0]
    is_usual = type(data_fetcher) is _PrefetchDataFetcher and type(loaders._iterator) is _MaxSizeCycle
    return loaders._iterator.iterators[0] if is_only and is_usual and data_fetcher.length is not None else None


class _LeanResults(_ResultCollection):
    """What was logged, brought to another device only where that is another one: Lightning copies it at every `log`.

    Attributes:
        has_news: Whether something was logged that was not handed on.
    """

    has_news = False

    def update_metrics(self, key: str, value: Any, batch_size: int) -> None:
        """Take a value that is logged."""
        self.has_news = True
        super().update_metrics(key, value, batch_size)

    def __setitem__(self, key: str, metric: _ResultMetric) -> None:
        if metric.is_tensor:
            metric.to = partial(_bring, metric)
        super().__setitem__(key, metric)


def _bring(metric: _ResultMetric, device: torch.device) -> _ResultMetric:
    return metric if metric.value.device == device else _ResultMetric.to(metric, device)
