"""A run that was killed and resumed ends as one that nobody killed, to the last bit, in one directory."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from soak import SHORT, VARIANTS, compare, recipe

from cnnbench.callbacks.checkpoint_files import damage
from cnnbench.cli.common.run_lock import LOCK, alone_in
from cnnbench.cli.main import main
from cnnbench.tasks import ClassificationTask


class Killed(BaseException):
    """Ends a run in its process, without a word, as SIGKILL ends the process."""


NUMBERS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}


def end(how):
    if how == "kill":
        raise Killed
    os.kill(os.getpid(), NUMBERS[how])


def fit(root, *words, killed=()):
    """Train below `root`; return the exit code, -9 where the run was killed.

    `killed` is (hook of the task, how many-eth call, kill, term or int, which is Ctrl-C).
    """
    words = ["fit", "--config", str(recipe()), *SHORT, "--wandb=disabled", "--checkpoint_every=3", *map(str, words)]
    with pytest.MonkeyPatch.context() as patch:
        if killed:
            hook, call, how = killed
            original, calls = getattr(ClassificationTask, hook), iter(range(1, 1000))

            def counted(*args):
                if next(calls) == call:
                    end(how)
                return original(*args)

            patch.setattr(ClassificationTask, hook, counted)
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            return main([*words, "--trainer.default_root_dir", str(root)])
        except Killed:
            return -signal.SIGKILL
        finally:
            signal.signal(signal.SIGINT, interrupt)  # which Lightning ignores after the first


def only_run(root):
    (config,) = root.rglob("config.yaml")
    return config.parent


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A function that returns the directory of a variant's run that nobody killed."""
    runs = {}

    def run(variant):
        if variant not in runs:
            root = tmp_path_factory.mktemp(variant)
            assert fit(root, *VARIANTS[variant]) == 0
            runs[variant] = only_run(root)
        return runs[variant]

    return run


@pytest.mark.parametrize(
    ("variant", "ends"),
    [
        ("plain", [("training_step", 15, "kill"), ("training_step", 2, "term")]),
        ("plain", [("on_train_epoch_end", 1, "kill"), ("on_train_epoch_start", 2, "term")]),
        ("plain", [("validation_step", 8, "kill"), ("validation_step", 3, "term")]),
        ("plain", [("validation_step", 8, "int"), ("training_step", 4, "int")]),
        ("workers", [("training_step", 13, "kill"), ("training_step", 6, "term")]),
        ("mixup", [("training_step", 6, "term"), ("training_step", 9, "kill")]),
        ("accumulation", [("training_step", 5, "term"), ("on_before_optimizer_step", 5, "kill")]),
        ("validations", [("validation_step", 7, "term"), ("training_step", 7, "kill")]),
        ("no_validation", [("on_train_epoch_start", 2, "term"), ("on_train_epoch_end", 2, "kill")]),
        ("ema", [("validation_step", 4, "int"), ("training_step", 3, "kill")]),
        ("unfreezing", [("training_step", 15, "term"), ("on_train_epoch_end", 1, "kill")]),
        ("steps", [("training_step", 14, "kill"), ("on_train_epoch_start", 1, "term")]),
    ],
)
def test_it_ends_as_if_nobody_had_killed_it(variant, ends, undisturbed, tmp_path):
    code, again = None, ()
    for killed in ends:
        code = fit(tmp_path, *VARIANTS[variant], *again, killed=killed)
        assert code == (-signal.SIGKILL if killed[2] == "kill" else 128 + NUMBERS[killed[2]])
        again = ("--ckpt_path=last",)
    assert fit(tmp_path, *VARIANTS[variant], *again) == 0
    assert compare(only_run(tmp_path), undisturbed(variant)) == []


def test_the_comparison_sees_one_bit(undisturbed, tmp_path):
    """What the test above relies on."""
    other = tmp_path / "other"
    assert fit(other, "--model.optim.weight_decay=0.0101") == 0
    found = compare(only_run(other), undisturbed("plain"))
    assert any("optimizer_states" in place for place in found)
    assert any("state_dict.network" in place for place in found)


def test_processes_are_killed_for_real():
    soak = [sys.executable, str(Path(__file__).with_name("soak.py")), "--kills", "2", "--variants", "plain"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(soak, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical" in done.stdout


# ---------------------------------------------------------------------- where it goes on


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The root of a run that was told to end in its second epoch."""
    root = tmp_path_factory.mktemp("half")
    assert fit(root, killed=("training_step", 15, "term")) == 143
    return root


def test_sigterm_saves_at_once_and_says_how_to_go_on(tmp_path, capsys):
    assert fit(tmp_path, "--checkpoint_every=never", killed=("training_step", 15, "term")) == 143
    last = only_run(tmp_path) / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 15
    assert f"--ckpt_path {last}" in capsys.readouterr().err


@pytest.mark.parametrize(("every", "steps"), [("4", {4, 8, 10, 14, 18}), ("never", {10}), ("1h", {10})])
def test_checkpoint_every(tmp_path, monkeypatch, every, steps):
    """Every run saves after its validations too, here of ten steps."""
    seen = set()
    original = torch.save

    def save(checkpoint, *args, **kwargs):
        seen.add(checkpoint["global_step"])
        return original(checkpoint, *args, **kwargs)

    monkeypatch.setattr(torch, "save", save)
    fit(tmp_path, f"--checkpoint_every={every}", killed=("training_step", 20, "kill"))
    assert seen == steps


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--model.optim.lr", 0.1), "trained with other settings: model.optim.lr 0.005, now 0.1; train on"),
        (("--data.batch_size", 32, "--seed_everything", 1), "seed_everything 0, now 1; data.batch_size 64, now 32"),
        (("--model.model_args", "{drop_rate: 0.1}"), "model.model_args null, now {drop_rate: 0.1}"),
        (("--data.augmentation.rotation", 5), "data.augmentation.rotation 10.0, now 5.0"),
    ],
)
@pytest.mark.parametrize("path", ["last", "file"])
def test_other_settings_are_named(half, mistake_of, options, named, path):
    path = "last" if path == "last" else only_run(half) / "checkpoints/last.ckpt"
    message = mistake_of(half, "--ckpt_path", path, *options)
    assert named in message
    assert f"--model.weights {only_run(half)}/checkpoints/last.ckpt" in message


@pytest.fixture
def mistake_of(capsys):
    """A function that fits below a root with a mistake, and returns the message; the runs there stay as they are."""

    def run(root, *words):
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        capsys.readouterr()
        assert fit(root, *words) == 2
        assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return run


def test_last_with_nothing_there(tmp_path, mistake_of):
    (tmp_path / "lenet5/20260101-000000/checkpoints").mkdir(parents=True)  # killed before its first checkpoint
    message = mistake_of(tmp_path, "--ckpt_path=last")
    assert f"--ckpt_path last: no last.ckpt to train on from in {tmp_path}/lenet5/*/checkpoints" in message


def test_an_option_counts_more_than_a_config_wherever_it_stands(half, mistake_of):
    """The config of a run that began anew says so, by a `ckpt_path` of null."""
    message = mistake_of(half, "--ckpt_path=last", "--model.optim.lr=0.1", "--config", only_run(half) / "config.yaml")
    assert "trained with other settings: model.optim.lr 0.005, now 0.1; train on" in message


HOLDS = """
import sys
from pathlib import Path
from cnnbench.callbacks.checkpoint_files import damage
from cnnbench.cli.common.run_lock import alone_in

with alone_in(Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


def test_a_run_that_another_process_trains_is_left_alone_until_that_is_killed(half, mistake_of):
    run = only_run(half)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDS, run], **pipes) as other:
        other.stdout.readline()
        message = mistake_of(half, "--ckpt_path=last")
        other.kill()
    assert f"{run} is being trained already, by process {other.pid} on {socket.gethostname()}: stop it" in message
    with alone_in(run):
        pass
    assert not (run / LOCK).exists()


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(undisturbed, tmp_path, capsys):
    assert fit(tmp_path, killed=("training_step", 15, "term")) == 143
    last = only_run(tmp_path) / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert fit(tmp_path, "--ckpt_path=last", killed=("training_step", 5, "kill")) == -signal.SIGKILL
    previous = last.with_name("previous.ckpt")
    assert f"{last}: it was cut short; training goes on from {previous}" in capsys.readouterr().out
    assert damage(last) is damage(previous) is None  # the damaged one has not taken the place of the whole one
    assert fit(tmp_path, "--ckpt_path=last") == 0
    assert compare(only_run(tmp_path), undisturbed("plain")) == []


def test_nothing_is_left_to_do(undisturbed, mistake_of):
    root = undisturbed("plain").parents[1]
    message = mistake_of(root, "--ckpt_path=last")
    assert "last.ckpt has reached the end of training already (trainer.max_epochs 3" in message


@pytest.mark.parametrize("every", ["0", "soon", "1.5", "5d", "-3", ""])
def test_a_wrong_interval(tmp_path, capsys, every):
    assert fit(tmp_path, f"--checkpoint_every={every}") == 2
    assert f"checkpoint_every is {every!r}, but must be steps (500), a time (30s, 10m, 2h)" in capsys.readouterr().err


def test_another_number_of_processes(half, mistake_of, tmp_path):
    run = only_run(half)
    other = tmp_path / "lenet5/run"
    (other / "checkpoints").mkdir(parents=True)
    (other / "config.yaml").write_text((run / "config.yaml").read_text())
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    checkpoint["run"]["world_size"] = 2
    torch.save(checkpoint, other / "checkpoints/last.ckpt")
    assert "was trained by 2 processes, this run has 1 process, which would" in mistake_of(tmp_path, "--ckpt_path=last")


def test_last_is_the_newest_run_of_these_settings(tmp_path):
    """Another seed's run was killed later, and is left alone."""
    stop = ("training_step", 5, "term")
    for seed in (0, 1):
        assert fit(tmp_path, "--seed_everything", seed, killed=stop) == 143
    ours, other = sorted(
        tmp_path.glob("lenet5/*"), key=lambda run: yaml.safe_load((run / "config.yaml").read_text())["seed_everything"]
    )
    before = (other / "checkpoints/last.ckpt").read_bytes()
    harmless = ("--data.num_workers=1", "--trainer.log_every_n_steps=2", "--trainer.enable_progress_bar=false")
    assert fit(tmp_path, "--ckpt_path=last", *harmless) == 0
    assert (other / "checkpoints/last.ckpt").read_bytes() == before
    assert torch.load(ours / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 30
    assert len(list(tmp_path.glob("lenet5/*"))) == 2
    assert yaml.safe_load((ours / "config.yaml").read_text())["ckpt_path"] is None  # it repeats the whole run


def test_the_best_checkpoint_begins_a_new_directory(undisturbed, tmp_path):
    run = undisturbed("plain")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    longer = ("--ckpt_path", run / "checkpoints/best.ckpt", "--trainer.max_epochs=4")
    assert fit(tmp_path, *longer) == 0
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert only_run(tmp_path) != run
