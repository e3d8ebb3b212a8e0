"""Transfer as a user does it: pretrain, then each recipe of `configs/transfer` on the run's checkpoint."""

import pytest
import torch
import yaml

from cnnbench import create_model

LENET5 = ("--model.name", "lenet5", "--trainer.max_epochs", 2, "--trainer.check_val_every_n_epoch", 1)
LAST_STAGE = {"c5", "head.pre_logits.fc"}
TRAINED = {  # in the second epoch, besides the classifier
    "feature_extraction": set(),
    "last_stages": LAST_STAGE,
    "discriminative": {"c1", "c3", *LAST_STAGE},
    "gradual": LAST_STAGE,
}


@pytest.fixture(scope="module")
def pretrained(commands, tmp_path_factory, configs):
    run = commands(tmp_path_factory.mktemp("pretrained"))
    return run("fit", "--config", configs / "transfer/pretrain.yaml", *LENET5, "--trainer.limit_train_batches", 5)


def weights_of(path):
    state = torch.load(path, weights_only=True)["state_dict"]
    return {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}


@pytest.mark.parametrize("strategy", TRAINED)
def test_a_recipe_trains_its_part_of_a_former_run(pretrained, command, configs, strategy, caplog):
    recipe = configs / f"transfer/{strategy}.yaml"
    # the recipe's own figures are for the five stages of a resnet18
    options = yaml.safe_load(recipe.read_text())["trainer"]["callbacks"][0]["init_args"]
    own = ("--trainer.callbacks.unfreeze_every", 1) if "unfreeze_every" in options else ()
    own += ("--trainer.callbacks.stages", 1) if "stages" in options else ()
    run = command("fit", "--config", recipe, *LENET5, *own, "--model.weights", pretrained.best)
    assert "its classifier is for other classes, so head.fc starts anew" in caplog.text
    before, after = weights_of(pretrained.best), weights_of(run.best.with_name("last.ckpt"))
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert {key.rpartition(".")[0] for key in changed} == TRAINED[strategy] | {"head.fc"}
    trained = sum(after[key].numel() for key in changed)
    assert run.curve("train/trainable_parameters")[-1] == trained
    assert f"trained  {trained:,} of " in run.out


def test_without_weights_it_warns(command, configs, caplog):
    command("fit", "--config", configs / "transfer/last_stages.yaml", *LENET5, "--trainer.callbacks.stages", 1)
    assert "Finetuning begins from random weights of lenet5" in caplog.text


def test_a_run_goes_on_and_is_evaluated_without_the_file_that_it_began_from(command, configs, tmp_path):
    file = tmp_path / "start.pth"
    torch.save(create_model("lenet5", num_classes=10, in_chans=1).state_dict(), file)
    short = ("--trainer.limit_train_batches", 2, "--model.weights", file, "--trainer.max_epochs", 1)
    run = command("fit", "--config", configs / "lenet5.yaml", *short)
    file.unlink()
    last = run.best.with_name("last.ckpt")
    command("validate", "--config", run.config, "--ckpt_path", last)
    command("fit", "--config", run.config, "--ckpt_path", last, "--trainer.max_epochs", 2)
    assert torch.load(last, weights_only=True)["global_step"] == 4
