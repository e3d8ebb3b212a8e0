"""Every recipe: it says its command, is parsed, and where its data can be had here or written, it runs."""

import re
from pathlib import Path

import pytest
import yaml

from cnnbench.cli.fit import FitCLI
from cnnbench.models import list_models, model_info

CONFIGS = Path(__file__).parents[2] / "configs"
SWEEPS = CONFIGS / "sweeps"  # settings of W&B, tested with the tracking
RECIPES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml") if path.parent != SWEEPS)
BUNDLED = [recipe for recipe in RECIPES if "/" not in recipe]
MONITORS = {"detection": "val/map", "multitask": "val/score", "segmentation": "val/miou"}
FEW_STEPS = ("--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 1)


class Parsed(FitCLI):
    """Parses and builds model and data, and stops before it would create a run."""

    def instantiate_trainer(self, **kwargs):
        return None

    def _run_subcommand(self, subcommand):
        return None


def is_ours_and_seeded(config):
    return config["model"]["init_args"]["source"] == "cnnbench" and config["seed_everything"] == 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_states_the_batch_that_its_rate_belongs_to(recipe):
    config = yaml.safe_load((CONFIGS / recipe).read_text())
    processes = 8 if recipe.startswith("imagenet/") or recipe.endswith(("_coco.yaml", "_voc.yaml")) else 1
    images = config["data"]["init_args"]["batch_size"] * processes * config["trainer"].get("accumulate_grad_batches", 1)
    assert config["model"]["init_args"]["optim"]["base_batch_size"] == images


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe not in BUNDLED])
def test_recipe_is_parsed(recipe):
    config = Parsed(["fit", "--config", str(CONFIGS / recipe)]).config.fit
    assert is_ours_and_seeded(config.as_dict())


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_opens_with_its_command_time_and_result(recipe):
    head = re.match(r"(#.*\n)+", (CONFIGS / recipe).read_text())[0]
    assert head.startswith(f"# python -m cnnbench fit --config configs/{recipe}")
    for word in ("Data", "Time", "Result"):
        assert re.search(rf"^# {word} ", head, re.MULTILINE), word
    assert "TODO" not in head


def test_every_family_has_a_recipe_on_bundled_data():
    names = {yaml.safe_load((CONFIGS / recipe).read_text())["model"]["init_args"]["name"] for recipe in BUNDLED}
    papers = {model_info(name).paper.title for name in names}
    assert papers == {model_info(name).paper.title for name in list_models()}


@pytest.mark.parametrize("recipe", BUNDLED)
def test_recipe_on_bundled_data_runs(command, recipe, saved):
    run = command("fit", "--config", CONFIGS / recipe, *FEW_STEPS, "--data.batch_size", 8)
    assert is_ours_and_seeded(yaml.safe_load(run.config.read_text()))
    assert {*saved} == {"best.ckpt", "last.ckpt"}


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.endswith("digits.yaml")])
def test_recipe_on_digit_scenes_runs(command, recipe, saved):
    small = ("--data.batch_size", 4, "--data.train_scenes", 8, "--data.val_scenes", 4)
    run = command("fit", "--config", CONFIGS / recipe, *FEW_STEPS, *small)
    assert {*saved} == {"best.ckpt", "last.ckpt"}
    assert len(run.curve(MONITORS[Path(recipe).parent.name])) == 1


def test_recipe_for_mnist_runs(command, mnist):
    root, _ = mnist
    data = ("--data.root", root, "--data.download", "false", "--data.val_size", 20, "--data.batch_size", 16)
    assert command("fit", "--config", CONFIGS / "mnist/lenet5.yaml", *FEW_STEPS, *data).best.exists()


def test_recipe_for_cifar10_runs(command, cifar10, saved):
    root, *_ = cifar10
    data = ("--data.root", root, "--data.download", "false", "--data.val_size", 20, "--data.batch_size", 8)
    command("fit", "--config", CONFIGS / "cifar10/resnet18.yaml", *FEW_STEPS, *data)
    assert {*saved} == {"best.ckpt", "last.ckpt"}


def test_the_imagenet_recipe_is_the_papers():
    """Liu et al. 2022, table 5."""
    recipe = yaml.safe_load((CONFIGS / "imagenet/convnext_t.yaml").read_text())
    model, data, trainer = recipe["model"]["init_args"], recipe["data"]["init_args"], recipe["trainer"]
    optim = model["optim"]
    assert (optim["optimizer"], optim["lr"], optim["weight_decay"]) == ("adamw", 4e-3, 0.05)
    assert (trainer["max_epochs"], optim["warmup_epochs"]) == (300, 20)
    assert data["batch_size"] * 8 == optim["base_batch_size"] == 4096
    assert (model["mixup"], model["cutmix"], model["label_smoothing"]) == (0.8, 1.0, 0.1)
    assert model["model_args"]["drop_path_rate"] == 0.1
    assert data["augmentation"] == {"auto_augment": "rand-m9-mstd0.5-inc1", "random_erasing": 0.25}
    assert trainer["callbacks"][0]["init_args"]["decay"] == 0.9999
