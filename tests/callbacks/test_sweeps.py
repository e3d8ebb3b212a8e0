"""Sweeps of W&B through this command line: many machines take settings from one server and fill one table."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tracked import SHORT, clean_environment
from wandb_server import ENTITY, wandb_server

from cnnbench.cli.fit import FitCLI

REPOSITORY = Path(__file__).parents[2]
SWEEPS = sorted((REPOSITORY / "configs/sweeps").glob("*.yaml"))
KEY = "0" * 40


class Parsed(FitCLI):
    """Parses and builds model and data, and stops before it would create a run."""

    def instantiate_trainer(self, **kwargs):
        return None

    def _run_subcommand(self, subcommand):
        return None


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def a_value(parameter):
    return parameter["values"][0] if "values" in parameter else parameter["min"]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_is_understood(path):
    """Its parameters are settings of its recipe, given as wandb gives them, and its metric is what the task watches."""
    sweep = yaml.safe_load(path.read_text())
    assert sweep["command"][:4] == ["${env}", "${interpreter}", "-m", "cnnbench"]
    words = [word for word in sweep["command"][4:] if word != "${args}"]
    flags = [f"--{name}={a_value(parameter)}" for name, parameter in sweep["parameters"].items()]
    parsed = Parsed([*words, *flags])
    config = parsed.config.fit.as_dict()
    for name, parameter in sweep["parameters"].items():
        section, *keys = name.split(".")
        value = config[section]["init_args"] if keys else config[section]
        for key in keys:
            value = value[key]
        assert value == a_value(parameter), name
    goals = {"max": "maximize", "min": "minimize"}
    assert sweep["metric"] == {"name": parsed.model.monitor, "goal": goals[parsed.model.monitor_mode]}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of two points, of which two agents took one each: the server, and what the agents printed."""
    folder = tmp_path_factory.mktemp("sweep")
    sweep = yaml.safe_load((REPOSITORY / "configs/sweeps/lenet5.yaml").read_text())
    sweep["parameters"] = {"model.optim.lr": {"values": [0.001, 0.01]}, "seed_everything": {"values": [3]}}
    sweep["command"] += ["--trainer.default_root_dir", str(folder / "runs"), "--trainer.max_epochs", "1", *SHORT]
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    with wandb_server() as server:
        environment = clean_environment(folder / "home") | {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": KEY}
        environment |= {"WANDB_DIR": str(folder), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # as in an activated environment

        def wandb(*words):
            words = [sys.executable, "-m", "wandb", *map(str, words)]
            done = subprocess.run(words, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        created = wandb("sweep", folder / "sweep.yaml")
        assert f"wandb agent {ENTITY}/cnnbench/sweep1" in created
        for _ in range(2):
            wandb("agent", "--count", 1, f"{ENTITY}/cnnbench/sweep1")
        yield server, folder


@pytest.mark.slow  # of wandb most of the time
def test_each_agent_trains_with_the_settings_that_it_was_given(swept):
    server, folder = swept
    assert [settings["model.optim.lr"] for _, settings in server.sweep.handed_out.values()] == [0.001, 0.01]
    assert len({agent for agent, _ in server.sweep.handed_out.values()}) == 2
    configs = [yaml.safe_load(path.read_text()) for path in (folder / "runs/lenet5").glob("*/config.yaml")]
    trained = {(config["model"]["init_args"]["optim"]["lr"], config["seed_everything"]) for config in configs}
    assert trained == {(0.001, 3), (0.01, 3)}


@pytest.mark.slow
def test_the_runs_stand_in_the_table_of_the_sweep(swept):
    server, _ = swept
    runs = {run["name"]: run["sweep"] for run in server.operations["UpsertBucket"] if run.get("sweep")}
    assert runs == dict.fromkeys(server.sweep.handed_out, "sweep1")
    assert server.exit_codes == [0, 0]
    assert sum("val/accuracy" in row for row in server.history) == 2
