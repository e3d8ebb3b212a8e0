"""What a person sees while a run goes on, in a terminal and without one."""

import io
import re

import lightning.pytorch as pl
import pytest
from rich.console import Console

from cnnbench import ClassificationTask, DigitsDataModule
from cnnbench.callbacks import progress
from cnnbench.callbacks.progress import RunProgress

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """A function that trains with the callback and returns what it wrote."""

    def train(terminal, **options):
        monkeypatch.setattr(progress, "REFRESH_SECONDS", 0)
        written = io.StringIO()
        callback = RunProgress()
        callback.console = Console(file=written, force_terminal=terminal, width=150, soft_wrap=True)
        options = {"max_epochs": 2, "limit_train_batches": 3, "log_every_n_steps": 1, **options}
        trainer = pl.Trainer(
            **options, callbacks=[callback], logger=False, enable_checkpointing=False, default_root_dir=tmp_path
        )
        trainer.fit(ClassificationTask("lenet5"), DigitsDataModule())
        return written.getvalue()

    return train


def test_one_line_an_epoch_without_a_terminal(shown):
    lines = shown(terminal=False).splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, start=1):
        figures = r"train/loss \d+\.\d{4}  train/accuracy 0\.\d{4}  val/loss \d+\.\d{4}  val/accuracy 0\.\d{4}"
        assert re.fullmatch(rf"epoch {number}/2  {figures}  [\d,]+ images/s  \d+:\d\d:\d\d left", line), line
    assert lines[-1].endswith("0:00:00 left")


def test_a_live_bar_in_a_terminal(shown):
    written = shown(terminal=True)
    for words in (r"epoch 1/2", r"3/3", r"loss \d", r"accuracy \d", r"images/s", r"left"):
        assert re.search(words, written), words


def test_steps_alone_may_end_a_run(shown):
    (line,) = shown(terminal=False, max_epochs=-1, max_steps=3).splitlines()
    assert line.startswith("epoch 1  ")
    assert line.endswith("0:00:00 left")
