"""A run that was killed is one run at W&B: its rows once, and all of them."""

import pytest
from tracked import fit
from wandb_log import WandbLog
from wandb_server import wandb_server

from cnnbench.tasks import ClassificationTask

KEY = "0123456789" * 4
NAMES = ("train/loss", "train/lr", "train/grad_norm", "train/accuracy", "val/loss", "val/accuracy")


class Killed(BaseException):
    pass


@pytest.fixture
def killed_fit(monkeypatch):
    """A function that trains until before the eleventh step, and then what is left: from a checkpoint after six."""

    def run(root, **environment):
        step, calls = ClassificationTask.training_step, iter(range(1, 100))

        def fails(*args):
            if next(calls) == 11:
                raise Killed
            return step(*args)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(ClassificationTask, "training_step", fails)
            fit(root, "--checkpoint_every=never", **environment)
        return fit(root, "--ckpt_path=last", **environment)

    return run


def rows(history):
    """What each row holds of the metrics, with its step, in order."""
    kept = ({key: row[key] for key in (*NAMES, "trainer/global_step") if key in row} for row in history)
    return [row for row in kept if len(row) > 1]


def test_offline_the_last_log_is_whole(killed_fit, tmp_path, offline_run):
    run = killed_fit(tmp_path)
    assert run.code == 0, run.err
    first, last = sorted(run.directory.glob("wandb/offline-run-*/run-*.wandb"))
    assert first.name == last.name  # which has the id of the run
    assert f"wandb sync {last.parent}" in run.out
    assert rows(WandbLog(last).history) == rows(offline_run.log.history)
    assert len(rows(WandbLog(first).history)) == 7


def test_online_no_row_is_sent_twice(killed_fit, tmp_path, offline_run):
    with wandb_server() as server:
        run = killed_fit(tmp_path, WANDB_BASE_URL=server.address, WANDB_API_KEY=KEY)
    assert run.code == 0, run.err
    assert len({sent["name"] for sent in server.operations["UpsertBucket"] if sent.get("name")}) == 1
    assert rows(server.history) == rows(offline_run.log.history)
    steps = [row["_step"] for row in server.history]
    assert steps == sorted(set(steps))
    assert server.exit_codes == [1, 0]


def test_online_a_run_that_is_prolonged_goes_on_behind_its_report(tmp_path):
    with wandb_server() as server:
        environment = {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": KEY}
        run = fit(tmp_path, **environment)
        fit(tmp_path, "--ckpt_path=last", "--trainer.max_epochs=3", **environment)
    assert rows(server.history) == [
        {key.replace("step", "trainer/global_step"): value for key, value in row.items() if key in (*NAMES, "step")}
        for row in run.metrics
    ]
