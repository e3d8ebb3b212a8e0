"""Wrong words and recipes: exit code 2 and a line that names the thing and the nearest right one, and no run.

What every mistake has in common is asserted by the fixture `mistake`.
"""

from pathlib import Path

import pytest
import torch
import yaml

from cnnbench.cli.main import main

LENET5 = ("fit", "--config", "configs/lenet5.yaml")
FINETUNING = "--trainer.callbacks+=Finetuning --trainer.callbacks.strategy="

# Options after `fit --config configs/lenet5.yaml` -> words of the message.
OPTIONS = {
    "--model.name resnet19": "unknown model 'resnet19'; did you mean 'resnet18'",
    "--model.name zzz": "unknown model 'zzz'; `python -m cnnbench models`",
    "--model.source timmm": "unknown source 'timmm'; did you mean 'timm'",
    "--model.nmae lenet5": "unknown key 'model.nmae'; did you mean 'model.name'?",
    "--modle.name lenet5": "unknown key 'modle.name'; did you mean 'model.name'?",
    "--model resnet18": "'resnet18' is a model's name, give it as --model.name resnet18",
    "--model ClasificationTask": "model: no class 'ClasificationTask'; did you mean 'ClassificationTask'",
    "--model nosuch.module.Task": "model: no class 'nosuch.module.Task'; there is 'ClassificationTask'",
    "--data mnist": "data: no class 'mnist'; did you mean 'MNISTDataModule'?",
    "--data lightning.pytorch.Trainer": "data: no class 'lightning.pytorch.Trainer'",
    "--data.root x": "unknown key 'data.root': DigitsDataModule has none, ImageFolderDataModule",
    "--data.batch_size many": "data.batch_size is 'many', but must be int",
    "--data.batch_size": "--data.batch_size needs a value",
    "--model.mixup --data.batch_size 8": "--model.mixup needs a value",
    "--model.optm.help": "no settings at 'model.optm'; did you mean 'model.optim'",
    "--trainer.max_epochs 0": "trainer.max_epochs is 0: there is nothing to train on",
    "--data.batch_size 0": "batch_size is 0: it must be at least 1",
    "--data.augmentation.hflip 2": "augmentation.hflip is 2.0: a probability is between 0 and 1",
    "--data.augmentation.hfliip 0.5": "unknown key 'data.augmentation.hfliip'; did you mean 'data.augmentation.hflip'?",
    "--data.augmentation foo": "data.augmentation is 'foo', but must be a mapping of color_jitter, crop_padding",
    "--data.batch_size null": "data.batch_size is null, but must be int",
    "--model.source null": "model.source is null, but must be str",
    "--model.optim.lrr 0.1": "unknown key 'model.optim.lrr'; did you mean 'model.optim.lr'?",
    "--model.optim.lr fast": "model.optim.lr is 'fast', but must be float",
    "--model.optim.optimizer admw": "unknown optimizer 'admw'; did you mean 'adamw'",
    "--trainer.max_epoch 3": "unknown key 'trainer.max_epoch'; did you mean 'trainer.max_epochs'?",
    "--trainer.max_epochs three": "trainer.max_epochs is 'three', but must be int or null",
    "--trainer.devices 9999": "trainer.devices is 9999: no GPU is used, and",
    "--trainer.accelerator gpuu": "unknown trainer.accelerator 'gpuu'; did you mean 'gpu'",
    "--trainer.precision foo": "trainer.precision is 'foo', but must be",
    "--trainer.strategy foo": "unknown trainer.strategy 'foo'",
    "--trainer.callbacks+=Finetuning --trainer.callbacks.strategy=last_stages --trainer.callbacks.stages=layer9": (
        "trainer.callbacks.stages is 'layer9', but must be int or null"
    ),
    "--model.optim.clip_mode agcc": "unknown clip_mode 'agcc'; did you mean 'agc'",
    "--model.optim.layer_decay 1.5": "optim.layer_decay is 1.5, but must be above 0 and at most 1",
    "--model.optim.base_batch_size 0": "optim.base_batch_size is 0, but must be at least 1",
    "--model.loss asymmetric --model.mixup 0.2": "loss 'asymmetric' cannot take the mixed targets of mixup and cutmix",
    "--trainer.accumulate_grad_batches 4": "is 4: it does not divide the 19 batches of an epoch, whose last step would",
    "--trainer.deterministic maybe": "trainer.deterministic is 'maybe', but must be",
    "--trainer.accumulate_grad_batches 0": "trainer.accumulate_grad_batches is 0: it must be at least 1",
    "--trainer.val_check_interval 1000": "`val_check_interval` (1000) must be less than or equal",
    "--trainer.callbacks EarlyStoping": "trainer.callbacks: no class 'EarlyStoping'; did you mean 'EarlyStopping'?",
    "--trainer.callbacks+ EarlyStopping": "EarlyStopping needs monitor",
    "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitr=x": "did you mean 'trainer.callbacks.monitor'?",
    f"{FINETUNING}gradul": "unknown strategy 'gradul' of Finetuning; did you mean 'gradual'",
    f"{FINETUNING}gradual --trainer.callbacks.stages=4": "the last 4 stages, but there are 3: act1, act3, act5",
    f"{FINETUNING}last_stages --trainer.callbacks.stages=0": "stages is 0, but must be at least 1",
    f"{FINETUNING}discriminative --trainer.callbacks.lr_decay=2": "lr_decay is 2.0, but must be above 0 and at most 1",
    f"{FINETUNING}feature_extraction --trainer.callbacks.stages=2": "takes no stages, last_stages or gradual does",
    f"{FINETUNING}gradual --trainer.callbacks.stage=2": "did you mean 'trainer.callbacks.stages'?",
    "--data.classes [3,11]": "classes are [3, 11]: name at least two digits",
    "--seed_everything -1": "seed_everything is -1",
    "--wandb off": "wandb is 'off', but must be auto, online, offline or disabled",
    "--compile maybe": "compile is 'maybe', but must be true or false",
    "--lr 0.1": "unknown key 'lr'; did you mean 'model.optim.lr'?",
    "--epochs 3": "'trainer.max_epochs'",
    "--seed 3": "did you mean 'seed_everything'?",
    "--batch-size 3": "did you mean 'data.batch_size'",
    "--verbose true": "unknown key 'verbose'",  # of `test`
    "resnet18": "give a model as --model.name resnet18",
    "--config": "-c/--config: expected one argument",
    "--config configs/nope.yaml": "no config at configs/nope.yaml",
    "--ckpt_path best": "no checkpoint at best; it is a file such as runs/…/checkpoints/best.ckpt",
    "--ckpt_path last": "--ckpt_path last: no last.ckpt to train on from in",
    "--ckpt_path configs": "configs is a directory, not a checkpoint",
    "--model.num_classes 7": "num_classes 7 of the model contradicts DigitsDataModule, which has 10",
    "--data.image_size 12": "images of 12x12 pixels are too small for lenet5: each side needs at least 32 pixels",
    "--data.batch_size 100000": "batch_size is 100000: the training set has 1257 images",
}


@pytest.mark.parametrize("options", OPTIONS)
def test_options(mistake, options):
    assert OPTIONS[options] in mistake(*LENET5, *options.split())


def test_a_recipe_for_other_data_is_named(mistake, tmp_path, monkeypatch):
    line = mistake(*LENET5, "--data", "ImageFolderDataModule", "--data.root", "photos")
    assert "unknown key 'data.augmentation.crop_padding': ImageFolderDataModule has none, DigitsDataModule" in line
    assert "configs/imagenet/convnext_t.yaml is a recipe for ImageFolderDataModule" in line
    recipe = Path("configs/lenet5.yaml").absolute()
    monkeypatch.chdir(tmp_path)
    Path("configs/folder.yaml").mkdir(parents=True)
    Path("configs/latin.yaml").write_bytes(b"caf\xe9")
    line = mistake("fit", "--config", recipe, "--data", "ImageFolderDataModule", "--data.root", "photos")
    assert line.endswith("CIFAR100DataModule has\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(mistake):
    assert "trainer.accelerator is 'gpu': this machine has only cpu" in mistake(*LENET5, "--trainer.accelerator", "gpu")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("fit", "data and model missing: give a recipe with --config"),
        ("fit configs/lenet5.yaml", "give a recipe as --config configs/lenet5.yaml"),
        ("fit --config configs/lenet.yaml", "no config at configs/lenet.yaml; did you mean 'configs/lenet5.yaml'"),
        ("fit --config lenet5.yaml", "did you mean 'configs/lenet5.yaml'"),
        ("fit --config configs", "configs is a directory, not a config; did you mean 'configs/"),
        ("fit --config=", "--config needs the path of a recipe"),
        ("test --config configs/lenet5.yaml", "test needs trained weights: --ckpt_path runs/…/checkpoints/best.ckpt"),
        ("predict --config configs/lenet5.yaml", "predict needs trained weights"),
        ("validate --config configs/lenet5.yaml --ckpt_path best", "no checkpoint at best"),
        ("test --config configs/lenet5.yaml --model.pretrained true", "lenet5 has no published weights"),
        ("fitt --config configs/lenet5.yaml", "unknown command 'fitt'; did you mean 'fit'"),
    ],
)
def test_commands(mistake, words, named):
    assert named in mistake(*words.split())


# ---------------------------------------------------------------------- recipes

# A dotted key of `lenet5.yaml`, its new value (... to drop it) -> words of the message.
CHANGES = [
    ("modle", 1, "unknown key 'modle'; did you mean 'model'?"),
    ("optim", None, "unknown key 'optim'; did you mean 'model.optim'?"),
    ("model", "lenet5", "give it as --model.name lenet5"),
    ("model", {"name": "lenet5"}, "model has no class_path; there is 'ClassificationTask'"),
    ("model", ["lenet5"], "model is a list, but must be a mapping"),
    ("data", ..., "data missing"),
    ("trainer", [1], "trainer is a list, but must be a mapping"),
    ("model.class_path", ..., "model has no class_path; there is 'ClassificationTask'"),
    ("model.class_path", None, "model has no class_path; there is 'ClassificationTask'"),
    ("data.class_path", "DigitDataModule", "data: no class 'DigitDataModule'; did you mean 'DigitsDataModule'"),
    ("model.init_args.name", ..., "model: ClassificationTask needs name"),
    ("model.init_args.nmae", "x", "unknown key 'model.nmae'; did you mean 'model.name'?"),
    ("model.init_args.optim", "adamw", "model.optim is 'adamw', but must be a mapping of base_batch_size, clip_grad"),
    ("model.init_args.optim.lrr", 1, "did you mean 'model.optim.lr'?"),
    ("model.init_args.optim.lr", [1], "model.optim.lr is '[1]', but must be float"),
    ("model.init_args.optim.lr", -1, "optim.lr is -1.0, but must be a number of at least 0"),
    ("model.init_args.optim.opt_args", {"betass": 1}, "optim.opt_args {'betass': 1} do not fit 'adamw'"),
    ("model.init_args.model_args", {"drop_rte": 1}, "lenet5 has no argument 'drop_rte'; did you mean 'drop_rate'"),
    ("data.init_args.augmentation.rotate", 1, "did you mean 'data.augmentation.rotation'?"),
    ("data.init_args.augmentation", ["hflip"], "data.augmentation is ['hflip'], but must be a mapping"),
    ("data.init_args.augmentation", None, "data.augmentation is None, but must be a mapping of color_jitter"),
    ("data.init_args.in_chans", 2, "in_chans is 2: it must be 1 or 3"),
    ("trainer.epochs", 3, "did you mean 'trainer.max_epochs'"),
    ("trainer.max_epochs", -1, "trainer.max_epochs and trainer.max_steps are both unlimited"),
    ("trainer.limit_train_batches", 0, "trainer.limit_train_batches is 0: there is nothing to train on"),
    ("trainer.callbacks", [{"class_path": "EarlyStopping", "init_args": {"monitor": "x", "mode": "up"}}], "got up"),
    (
        "trainer.callbacks",
        [{"class_path": "EarlyStopping", "init_args": {"monitor": "x", "patience": "x"}}],
        "trainer.callbacks.patience is 'x', but must be int",
    ),
]


@pytest.mark.parametrize(("key", "value", "named"), CHANGES, ids=[f"{key}={value}" for key, value, _ in CHANGES])
def test_recipes(mistake, tmp_path, key, value, named):
    recipe = yaml.safe_load(Path("configs/lenet5.yaml").read_text())
    *sections, last = key.split(".")
    place = recipe
    for section in sections:
        place = place[section]
    place.pop(last, None)
    if value is not ...:
        place[last] = value
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert named in mistake("fit", "--config", tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "recipe.yaml is empty: a config is a mapping of model, data and trainer"),
        (b"hello\n", "recipe.yaml holds a text: a config is a mapping"),
        (b"- model\n", "recipe.yaml holds a list: a config is a mapping"),
        (b"model:\n\tname: x\n", "recipe.yaml is not valid YAML, line 2: indent with spaces, not with a tab"),
        (b"model: {a: [\n", "recipe.yaml is not valid YAML, line 2: expected"),
        (b"trainer: {}\nmodel: {}\ntrainer: {}\n", "recipe.yaml is not valid YAML, line 3: 'trainer' stands twice"),
        (b"model: !!python/object/apply:os.getcwd []\n", "recipe.yaml is not valid YAML, line 1: could not determine"),
        (b"\x80\x00", "recipe.yaml is not a config: it is not a text file"),
    ],
)
def test_files_that_are_no_recipe(mistake, tmp_path, content, named):
    (tmp_path / "recipe.yaml").write_bytes(content)
    assert named in mistake("fit", "--config", tmp_path / "recipe.yaml")


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_command_alone_asks_for_a_checkpoint(command, capsys):
    assert main([command]) == 2
    assert f"{command} needs a checkpoint, --ckpt_path runs/…/checkpoints/best.ckpt, or a" in capsys.readouterr().err
