"""`fit` by the command line: what a run leaves behind, that it repeats, and that ours and timm's train alike."""

import re
import shlex
from functools import partial

import pytest
import torch
import yaml

from cnnbench import ClassificationTask

SHORT = ("--trainer.max_epochs", 2, "--trainer.limit_train_batches", 4, "--trainer.log_every_n_steps", 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def command(commands, root):
    """With one folder of runs for this file, whose tests read the same run."""
    return commands(root)


@pytest.fixture(scope="module")
def lenet5(command, configs):
    return command("fit", "--config", configs / "lenet5.yaml", *SHORT)


def test_a_run_has_its_own_directory(lenet5, root):
    assert lenet5.directory.parent == root / "lenet5"
    assert {path.name for path in lenet5.directory.iterdir()} == {"config.yaml", "metrics.csv", "checkpoints"}
    assert {path.name for path in lenet5.best.parent.iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}


def test_a_second_run_leaves_the_first_alone(lenet5, command, configs):
    before = {path: path.read_bytes() for path in lenet5.directory.rglob("*") if path.is_file()}
    second = command("fit", "--config", configs / "lenet5.yaml", *SHORT)
    assert second.directory != lenet5.directory
    assert all(path.read_bytes() == content for path, content in before.items())


def test_metrics_are_complete(lenet5):
    assert set().union(*lenet5.metrics) == {
        *("epoch", "step", "train/loss", "train/accuracy", "train/lr", "train/grad_norm"),
        *("val/loss", "val/accuracy", "val/accuracy_top5"),
    }
    assert len(lenet5.curve("train/loss")) == 8
    assert len(lenet5.curve("val/accuracy")) == 2


def test_it_says_where_everything_is_and_its_test_command_works(lenet5, command):
    best = max(lenet5.curve("val/accuracy"))
    assert f"val/accuracy {best:.4f}" in lenet5.out
    printed = re.search(r"^test +\S+ -m cnnbench (.*)$", lenet5.out, re.MULTILINE)[1]
    test = command(*shlex.split(printed))
    assert re.search(r"^test/accuracy +[01]\.\d+$", test.out, re.MULTILINE)


def test_config_is_complete_and_repeats_the_run_to_the_last_bit(lenet5, command):
    config = yaml.safe_load(lenet5.config.read_text())
    assert config["seed_everything"] == 0
    assert config["model"]["init_args"]["optim"]["momentum"] == 0.9  # a default that the recipe does not name
    again = command("fit", "--config", lenet5.config)
    assert again.directory.parent == lenet5.directory.parent
    assert again.metrics == lenet5.metrics
    ours, theirs = (torch.load(run.best, weights_only=True)["state_dict"] for run in (lenet5, again))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_another_seed_is_another_run(lenet5, command, configs):
    other = command("fit", "--config", configs / "lenet5.yaml", *SHORT, "--seed_everything", 1)
    assert other.curve("train/loss") != lenet5.curve("train/loss")


@pytest.mark.parametrize("recipe", ["lenet5", "resnet18", "convnext_t"])
def test_ours_and_the_reference_train_alike(command, configs, recipe, saved):
    """The initial weights, dropout, drop path, order and augmentation follow from the seed, so the losses agree."""
    short = (*SHORT, "--trainer.max_epochs", 1, "--trainer.limit_val_batches", 1, "--data.batch_size", 8)
    runs = [command("fit", "--config", configs / f"{recipe}.yaml", *short, "--model.source", s) for s in SOURCES]
    ours, theirs = ([run.curve(name) for name in CURVES] for run in runs)
    assert ours == theirs
    assert len(ours[0]) == 4


SOURCES = ("cnnbench", "timm")
CURVES = ("train/loss", "train/grad_norm", "val/loss")


def test_a_run_is_trained_on_in_its_directory_at_the_rates_of_a_longer_schedule(command, configs):
    recipe = ("fit", "--config", configs / "lenet5.yaml", *SHORT)
    run = command(*recipe)
    first = run.metrics
    more = command(*recipe, "--ckpt_path", run.best.with_name("last.ckpt"), "--trainer.max_epochs", 4)
    fresh = command(*recipe, "--trainer.max_epochs", 4)
    assert more.directory == run.directory
    assert re.search(r"^from +\S+/last.ckpt, step 8, epoch 3$", more.out, re.MULTILINE)
    assert more.metrics[: len(first)] == first
    assert [row["step"] for row in more.metrics] == [row["step"] for row in fresh.metrics]
    assert more.curve("train/lr")[8:] == fresh.curve("train/lr")[8:]


def test_last_is_the_last(command, configs):
    """Nothing is learned at a rate of 0, so the first checkpoint stays the best."""
    frozen = ("--model.optim.lr", 0, "--model.optim.warmup_lr", 0)
    run = command("fit", "--config", configs / "lenet5.yaml", *SHORT, *frozen)
    best, last = (torch.load(path, weights_only=True) for path in (run.best, run.best.with_name("last.ckpt")))
    assert (best["global_step"], last["global_step"]) == (4, 8)


def test_last_is_saved_where_steps_end_the_run(command, configs):
    steps = ("--trainer.max_epochs", -1, "--trainer.max_steps", 6, "--trainer.limit_train_batches", 4)
    run = command("fit", "--config", configs / "lenet5.yaml", *steps)
    assert torch.load(run.best.with_name("last.ckpt"), weights_only=True)["global_step"] == 6


def test_a_short_run_without_validation_says_where_its_weights_are_and_logs_each_epoch(command, configs, caplog):
    steps = ("--trainer.max_epochs", 2, "--trainer.limit_train_batches", 4, "--trainer.check_val_every_n_epoch", 3)
    run = command("fit", "--config", configs / "lenet5.yaml", *steps, "--model.optim.warmup_epochs", 2)
    assert re.search(r"^last +\S+/last.ckpt; nothing was validated", run.out, re.MULTILINE)
    assert len(run.curve("train/loss")) == len(run.curve("train/lr")) == 2
    assert "warmup_epochs is 2, and the run has 2: the learning rate rises and never decays" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        ("--compile",),
        ("--channels_last",),
        ("--trainer.precision", "bf16-mixed"),
        ("--trainer.accumulate_grad_batches", 2),
        ("--model.mixup", 0.8, "--model.cutmix", 1.0),
        ("--model.optim.clip_grad", 0.1),
    ],
)
def test_switches(command, configs, options, lenet5, monkeypatch):
    # Without C++, which the tests of the task have torch write and compile.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    run = command("fit", "--config", configs / "lenet5.yaml", *SHORT, *options)
    assert run.curve("train/loss")[1:] != lenet5.curve("train/loss")[1:] or options[0] in IN_VAIN
    assert torch.tensor(run.curve("val/loss")).isfinite().all()
    keys = [torch.load(r.best, weights_only=True)["state_dict"].keys() for r in (run, lenet5)]
    assert keys[0] == keys[1]  # a compiled network is saved under the same names


IN_VAIN = ("--compile", "--channels_last")  # may compute the very same numbers


@pytest.mark.parametrize(("asked", "warn_only"), [("true", False), ("warn", True)])
def test_deterministic_algorithms_on_request(command, configs, monkeypatch, asked, warn_only):
    seen = set()

    def step(task, *args):
        seen.add((torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()))
        return trained_by(task, *args)

    trained_by = ClassificationTask.training_step
    monkeypatch.setattr(ClassificationTask, "training_step", step)
    try:
        command("fit", "--config", configs / "lenet5.yaml", *SHORT, "--trainer.deterministic", asked)
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen == {(True, warn_only)}


def test_a_fit_says_its_steps_and_their_rate(command, configs):
    options = ("--trainer.accumulate_grad_batches", 2, "--model.optim.lr", 0.1, "--data.batch_size", 16)
    run = command("fit", "--config", configs / "lenet5.yaml", *SHORT, *options, "--model.optim.sched", "constant")
    assert "32 images a step, learning rate 0.05 = 0.1 x 32 / 64" in run.out
    assert run.curve("train/lr")[-1] == pytest.approx(0.05)


@pytest.fixture
def hparams_of(configs):
    """A function that reads a command's options for LeNet-5, without training it."""
    from cnnbench.cli.fit import FitCLI

    class Built(FitCLI):
        def instantiate_trainer(self, **kwargs):
            return None

        def _run_subcommand(self, subcommand):
            return None

    return lambda *words: Built(["fit", "--config", str(configs / "lenet5.yaml"), *words]).model.hparams


def test_switches_reach_the_network(hparams_of):
    hparams = hparams_of("--compile", "--channels_last")
    assert hparams.compile
    assert hparams.channels_last


def test_null_takes_back_what_a_recipe_sets(hparams_of):
    assert hparams_of("--model.optim.clip_grad", "2").optim["clip_grad"] == 2
    assert hparams_of("--model.optim.clip_grad", "2", "--model.optim.clip_grad", "null").optim["clip_grad"] is None


def test_ema_is_evaluated_and_saved(command, configs, tmp_path):
    """The callback of the ImageNet recipes, by its short name."""
    recipe = tmp_path / "ema.yaml"
    callback = {"class_path": "EMA", "init_args": {"decay": 0.9}}
    recipe.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    run = command("fit", "--config", configs / "lenet5.yaml", "--config", recipe, *SHORT)
    best = torch.load(run.best, weights_only=True)
    assert any(not torch.equal(best["state_dict"][key], best["current_model_state"][key]) for key in best["state_dict"])
    validated = command("validate", "--config", run.config, "--ckpt_path", run.best)
    assert validated.curve("val/accuracy") == [max(run.curve("val/accuracy"))]
    assert validated.curve("val/loss")[0] in run.curve("val/loss")
