"""What is tracked of a run and where, with and without a login, a server, and the wish for it."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from threading import Timer

import pytest
import torch
import wandb
import yaml
from tracked import RECIPE, SHORT, clean_environment, fit
from wandb_log import WandbLog
from wandb_server import wandb_server

from cnnbench.callbacks import report
from cnnbench.tasks import ClassificationTask

KEY = "0123456789" * 4
TRACKED = ("train/loss", "train/lr", "train/grad_norm", "train/accuracy", "val/loss", "val/accuracy")


def curve(rows, name):
    return [row[name] for row in rows if name in row]


def test_without_a_login_it_is_offline_and_silent(offline_run):
    assert offline_run.code == 0
    assert offline_run.err == ""
    assert "wandb:" not in offline_run.out
    (line,) = [line for line in offline_run.out.splitlines() if line.startswith("W&B")]
    assert line.split(maxsplit=1)[1].startswith("offline; to upload: wandb sync ")
    assert list(offline_run.directory.glob("wandb/*run-*")) == [
        offline_run.directory / "wandb" / line.rpartition("/")[2]
    ]


def test_log_holds_the_whole_config(offline_run):
    config = offline_run.log.config
    config.pop("_wandb")
    assert (config.pop("images_per_step"), config.pop("learning_rate")) == (64, 0.005)
    assert config == yaml.safe_load((offline_run.directory / "config.yaml").read_text())


@pytest.mark.parametrize("name", TRACKED)
def test_log_holds_the_metrics_of_metrics_csv(offline_run, name):
    values = curve(offline_run.log.history, name)
    assert values == curve(offline_run.metrics, name)
    assert len(values) == (6 if name in ("train/loss", "train/lr", "train/grad_norm") else 2)
    assert curve(offline_run.log.history, "trainer/global_step")[:3] == [1, 3, 5]


def test_an_offline_run_is_whole_in_its_directory(offline_run):
    files = [path for artifact in offline_run.log.artifacts.values() for path in artifact.values()]
    assert files
    assert all(path.is_file() and path.is_relative_to(offline_run.directory) for path in files)
    assert not list((offline_run.directory.parents[2] / "home/data").rglob("*"))


@pytest.mark.parametrize(
    ("words", "environment"),
    [((), {"WANDB_MODE": "offline"}), ((), {"WANDB_MODE": "dryrun"}), (("--wandb", "offline"), {})],
)
def test_offline_is_offline_with_a_login_too(tmp_path, words, environment):
    with wandb_server() as server:
        run = fit(tmp_path, *words, WANDB_BASE_URL=server.address, WANDB_API_KEY=KEY, **environment)
    assert run.code == 0
    assert not server.operations
    assert run.log.exit_codes == [0]


@pytest.mark.parametrize(("words", "environment"), [(("--wandb", "disabled"), {}), ((), {"WANDB_MODE": "disabled"})])
def test_disabled_is_off_and_changes_no_figure(tmp_path, monkeypatch, words, environment, offline_run):
    for name in ("setup", "login", "init"):
        monkeypatch.setattr(wandb, name, lambda *args, **kwargs: pytest.fail("wandb was called"))
    run = fit(tmp_path, *words, WANDB_API_KEY=KEY, **environment)
    assert run.code == 0
    assert "disabled" in run.out
    assert sorted(path.name for path in run.directory.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "metrics.csv",
    ]
    assert run.metrics == offline_run.metrics
    paths = (tracked.directory / "checkpoints/last.ckpt" for tracked in (run, offline_run))
    ours, theirs = (torch.load(path, weights_only=True)["state_dict"] for path in paths)
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_what_wandb_was_told_for_good_is_respected(tmp_path, mode):
    """`wandb offline` and `wandb disabled` write this file."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/settings").write_text(f"[default]\nmode = {mode}\n")
    run = fit(tmp_path, WANDB_API_KEY=KEY)
    assert f"W&B    {mode}" in run.out
    assert (run.directory / "wandb").exists() == (mode == "offline")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WANDB_MODE", "ofline", "unknown WANDB_MODE 'ofline' in the environment; did you mean 'offline' or"),
        ("WANDB_INIT_TIMEOUT", "soon", "init_timeout Input should be a valid number"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path, variable, value, message):
    run = fit(tmp_path, **{variable: value})
    assert run.code == 2
    assert message in run.err
    assert len(run.err.splitlines()) == 1


# ---------------------------------------------------------------------- online


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    """A run with a login, and the server that it talked to."""
    root = tmp_path_factory.mktemp("online")
    with wandb_server() as server:
        run = fit(root, WANDB_BASE_URL=server.address, WANDB_API_KEY=KEY)
    return run, server


def test_with_a_login_it_is_online_and_silent(online):
    run, server = online
    assert run.code == 0
    assert run.err == ""
    assert "wandb:" not in run.out
    (sent, *_) = server.operations["UpsertBucket"]
    assert f"{server.address}/tester/cnnbench/runs/{sent['name']}" in run.out
    assert sent["displayName"] == f"lenet5/{run.directory.name}"
    assert (sent["groupName"], sent["jobType"]) == ("lenet5", "fit")
    assert server.exit_codes == [0]


def test_the_server_has_config_and_metrics(online):
    run, server = online
    config = yaml.safe_load((run.directory / "config.yaml").read_text())
    assert config["model"]["init_args"]["optim"].pop("opt_args") == {}  # wandb sends no empty mapping
    assert server.config() == config | {"images_per_step": 64, "learning_rate": 0.005}
    for name in TRACKED:
        assert curve(server.history, name) == curve(run.metrics, name)


def test_the_server_has_the_report_with_its_images(online):
    _, server = online
    (mistakes,) = [content for name, content in server.files.items() if name.endswith("/mistakes.table.json")]
    images = [row[0]["path"] for row in json.loads(mistakes)["data"]]
    assert images
    assert all(any(name.endswith(image) for name in server.files) for image in images)
    assert any(name.endswith("confusion_matrix_table.table.json") for name in server.files)


def test_the_server_has_the_best_checkpoint(online):
    run, server = online
    (name,) = [name for name, artifact in server.artifacts().items() if artifact["artifactTypeName"] == "model"]
    assert "best" in [alias["alias"] for alias in server.artifacts()[name]["aliases"]]
    assert {"artifactID": name} in server.operations["CommitArtifact"]
    assert server.files[f"{name}/best.ckpt"] == (run.directory / "checkpoints/best.ckpt").read_bytes()


def test_nothing_is_copied_below_the_home(online):
    run, _ = online
    home = run.directory.parents[2] / "home"
    assert not [path for path in home.rglob("*") if path.suffix == ".ckpt" or path.stat().st_size > 100_000]


# ---------------------------------------------------------------------- what goes wrong


def unused_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_without_a_server_it_goes_on_offline(tmp_path):
    address = f"http://127.0.0.1:{unused_port()}"
    run = fit(tmp_path, WANDB_BASE_URL=address, WANDB_API_KEY=KEY, WANDB_INIT_TIMEOUT=1)
    assert run.code == 0
    (line,) = [line for line in run.out.splitlines() if line.startswith("W&B")]
    assert "offline, no W&B server reached" in line
    assert "connection refused" in line
    assert run.err == ""
    assert run.log.exit_codes == [0]
    assert not list(run.directory.glob("wandb/run-*"))


@pytest.mark.parametrize(
    ("words", "environment", "reason"),
    [
        (("--wandb", "online"), {}, "no W&B login (wandb login, or WANDB_API_KEY)"),
        ((), {"WANDB_API_KEY": "short"}, "no W&B login (WANDB_API_KEY invalid: API key must have 40+"),
    ],
)
def test_without_a_valid_login_online_is_offline(tmp_path, words, environment, reason):
    run = fit(tmp_path, *words, **environment)
    assert run.code == 0
    assert f"offline, {reason}" in run.out
    assert run.log.exit_codes == [0]


def test_a_server_lost_on_the_way_costs_no_run(tmp_path, monkeypatch):
    with wandb_server() as server:
        table = report._mistakes_table

        def lose_server(*args):
            server.lost = True
            return table(*args)

        monkeypatch.setattr(report, "_mistakes_table", lose_server)
        limits = {"WANDB_FINISH_TIMEOUT": 1, "WANDB__GRAPHQL_RETRY_MAX": 1}
        run = fit(tmp_path, WANDB_BASE_URL=server.address, WANDB_API_KEY=KEY, **limits)
    assert run.code == 0, run.err
    (directory,) = run.directory.glob("wandb/run-*")
    told = [line for line in run.out.splitlines() if line.startswith("W&B:")]
    assert [line.partition(" failed: ")[0] for line in told] == ["W&B: the report", "W&B: the end of the run"]
    assert all(line.endswith(f"; to upload what is missing: wandb sync {directory}") for line in told)
    assert run.out.splitlines()[-1].startswith("test ")
    (log,) = directory.glob("run-*.wandb")
    assert curve(WandbLog(log).history, "val/accuracy") == curve(run.metrics, "val/accuracy")


@pytest.mark.parametrize("error", [RuntimeError("planted"), KeyboardInterrupt()])
def test_a_run_that_fails_is_marked_so(tmp_path, monkeypatch, error):
    def fail(*args):
        raise error

    interrupt = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(ClassificationTask, "on_train_epoch_end", fail)
    try:
        with suppress(RuntimeError, SystemExit):  # how the command ends is tested where it is decided
            fit(tmp_path)
    finally:
        signal.signal(signal.SIGINT, interrupt)  # which Lightning ignores after the first
    (log,) = tmp_path.glob("runs/lenet5/*/wandb/offline-run-*/run-*.wandb")
    assert WandbLog(log).exit_codes == [1]
    assert len(curve(WandbLog(log).history, "train/loss")) == 3


def test_runs_of_one_process_are_apart(tmp_path, offline_run):
    second = fit(tmp_path, "--seed_everything", "1")
    assert [run.log.config["seed_everything"] for run in (offline_run, second)] == [0, 1]
    for run in (offline_run, second):
        assert curve(run.log.history, "train/loss") == curve(run.metrics, "train/loss")


@pytest.mark.slow
def test_two_processes_at_a_terminal_ask_nothing_and_track_one_run(tmp_path):
    """Asked to be online without a login, at a terminal, wandb itself would prompt for a key."""
    ours, theirs = pty.openpty()
    words = ["fit", "--config", RECIPE, "--wandb", "online", "--trainer.default_root_dir", tmp_path / "runs"]
    ddp = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnbench", *map(str, words), *ddp, "--trainer.max_epochs", "1", *SHORT],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=clean_environment(tmp_path / "home") | {"TERM": "xterm", "COLUMNS": "500"},
        start_new_session=True,
    )
    os.close(theirs)
    waiting = Timer(300, os.killpg, (process.pid, signal.SIGKILL))  # for an answer
    waiting.start()
    printed = "".join(read_terminal(ours))
    waiting.cancel()
    assert process.wait() == 0, printed
    assert printed.count("no W&B login") == 1
    assert "wandb:" not in printed

    (log,) = map(WandbLog, tmp_path.glob("runs/lenet5/*/wandb/offline-run-*/run-*.wandb"))
    assert log.exit_codes == [0]
    (path,) = [files[name] for files in log.artifacts.values() for name in files if name.startswith("val/confusion")]
    counts = [row[2] for row in json.loads(path.read_text())["data"]]
    assert sum(counts) == 270  # of both processes


def read_terminal(terminal):
    """Yield what is printed until nobody holds the other end any more."""
    with os.fdopen(terminal, "rb", buffering=0) as file, suppress(OSError):
        while chunk := file.read(65536):
            yield chunk.decode(errors="replace")
