"""Bad input: exit code 2 and a line that names the thing and the nearest right one, and nothing left behind."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from cnnbench.cli.main import main

LENET5 = ("fit", "--config", "configs/lenet5.yaml")

# Options after `fit --config configs/lenet5.yaml` -> words of the message.
OPTIONS = {
    "--model.name resnet19": "unknown model 'resnet19'; did you mean 'resnet18'",
    "--model.name zzz": "unknown model 'zzz'; `python -m cnnbench models`",
    "--model.source timmm": "unknown source 'timmm'; did you mean 'timm'",
    "--model.nmae lenet5": "unknown key 'model.nmae'; did you mean 'model.name'?",
    "--modle.name lenet5": "unknown key 'modle.name'; did you mean 'model.name'?",
    "--model resnet18": "'resnet18' is a model's name, give it as --model.name resnet18",
    "--model ClasificationTask": "model: no class 'ClasificationTask'; did you mean 'ClassificationTask'?",
    "--model nosuch.module.Task": "model: no class 'nosuch.module.Task'; there is 'ClassificationTask'",
    "--data mnist": "data: no class 'mnist'; did you mean 'MNISTDataModule'?",
    "--data lightning.pytorch.Trainer": "data: no class 'lightning.pytorch.Trainer'; there is",
    "--data.root x": "unknown key 'data.root': DigitsDataModule has none, ImageFolderDataModule",
    "--data.batch_size many": "data.batch_size is 'many', but must be int",
    "--data.batch_size 0": "batch_size is 0: it must be at least 1",
    "--data.augmentation.hflip 2": "augmentation.hflip is 2.0: a probability is between 0 and 1",
    "--data.augmentation.hfliip 0.5": "unknown key 'data.augmentation.hfliip'; did you mean 'data.augmentation.hflip'?",
    "--data.augmentation foo": "data.augmentation is 'foo', but must be a mapping of crop_padding, hflip",
    "--model.optim.lrr 0.1": "unknown key 'model.optim.lrr'; did you mean 'model.optim.lr'?",
    "--model.optim.lr fast": "model.optim.lr is 'fast', but must be float",
    "--model.optim.optimizer admw": "unknown optimizer 'admw'; did you mean 'adamw'",
    "--trainer.max_epoch 3": "unknown key 'trainer.max_epoch'; did you mean 'trainer.max_epochs'?",
    "--trainer.max_epochs three": "trainer.max_epochs is 'three', but must be int or null",
    "--trainer.devices 9999": "trainer.devices is 9999: no GPU is used, and",
    "--trainer.accelerator gpuu": "unknown trainer.accelerator 'gpuu'; did you mean 'gpu'",
    "--trainer.precision foo": "trainer.precision is 'foo', but must be",
    "--trainer.strategy foo": "invalid strategy name: `strategy='foo'`",
    "--trainer.accumulate_grad_batches 0": "trainer.accumulate_grad_batches is 0: it must be at least 1",
    "--trainer.val_check_interval 1000": "`val_check_interval` (1000) must be less than or equal",
    "--trainer.callbacks EarlyStoping": "trainer.callbacks: no class 'EarlyStoping'; did you mean 'EarlyStopping'?",
    "--trainer.callbacks+ EarlyStopping": "EarlyStopping needs monitor",
    "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitr=x": "did you mean 'trainer.callbacks.monitor'?",
    "--seed_everything -1": "seed_everything is -1",
    "--wandb off": "wandb is 'off', but must be auto, online, offline or disabled",
    "--compile maybe": "compile is 'maybe', but must be true or false",
    "--lr 0.1": "unknown key 'lr'; did you mean 'model.optim.lr'?",
    "--epochs 3": "'trainer.max_epochs'",
    "--seed 3": "did you mean 'seed_everything'?",
    "--batch-size 3": "did you mean 'data.batch_size'?",
    "--verbose true": "unknown key 'verbose'",  # of `test`
    "resnet18": "give a model as --model.name resnet18",
    "--config": "-c/--config: expected one argument",
    "--config configs/nope.yaml": "no config at configs/nope.yaml",
    "--ckpt_path best": "no checkpoint at best; it is a file such as runs/…/checkpoints/best.ckpt",
    "--ckpt_path last": "no checkpoint at last",
    "--ckpt_path configs": "configs is a directory, not a checkpoint",
    "--model.num_classes 7": "num_classes 7 of the model contradicts DigitsDataModule, which has 10",
    "--data.image_size 12": "images of 12x12 pixels are too small for lenet5: each side needs at least 32 pixels",
    "--data.batch_size 100000": "batch_size is 100000: the training set has 1257 images",
}


@pytest.mark.parametrize("options", OPTIONS)
def test_options(mistake, options):
    assert OPTIONS[options] in mistake(*LENET5, *options.split())


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
    ("model.init_args.optim", "adamw", "model.optim is 'adamw', but must be a mapping of clip_grad, decay_epochs"),
    ("model.init_args.optim.lrr", 1, "did you mean 'model.optim.lr'?"),
    ("model.init_args.optim.lr", [1], "model.optim.lr is '[1]', but must be float"),
    ("model.init_args.optim.lr", -1, "optim.lr is -1.0, but must be a number of at least 0"),
    ("model.init_args.optim.opt_args", {"betass": 1}, "optim.opt_args {'betass': 1} do not fit 'adamw'"),
    ("model.init_args.model_args", {"drop_rte": 1}, "lenet5 has no argument 'drop_rte'; did you mean 'drop_rate'"),
    ("data.init_args.augmentation.rotate", 1, "did you mean 'data.augmentation.rotation'?"),
    ("data.init_args.augmentation", ["hflip"], "data.augmentation is ['hflip'], but must be a mapping"),
    ("data.init_args.augmentation", None, "data.augmentation is None, but must be a mapping of crop_padding"),
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


# ---------------------------------------------------------------------- data

FOLDER = "--model.name lenet5 --model.model_args {} --model.mixup 0 --model.cutmix 0 --data.image_size 32"
FOLDER += " --data.batch_size 4 --trainer.max_epochs 1 --trainer.precision 32-true --trainer.log_every_n_steps 1"


@pytest.fixture
def folder_mistake(mistake, photos):
    """A function that trains on the photos, which the test has spoilt."""
    recipe = ("fit", "--config", "configs/imagenet/convnext_t.yaml", *FOLDER.split(), "--trainer.callbacks", "null")

    def run(*words, **kwargs):
        return mistake(*recipe, "--data.root", photos, "--data.num_workers", "0", *words, **kwargs)

    return run


def test_a_missing_root_names_the_folders_looked_in(folder_mistake, mistake, photos):
    assert f"no folder {photos}/gone/train" in folder_mistake("--data.root", photos / "gone")
    mnist = ("fit", "--config", "configs/mnist/lenet5.yaml", "--data.download", "false")
    message = mistake(*mnist, "--data.root", photos / "gone")
    assert f"no MNIST in {photos}/gone/MNIST/raw, {photos}/gone/raw, {photos}/gone" in message


def test_a_folder_without_images(folder_mistake, photos):
    for image in (photos / "train/cat").iterdir():
        image.unlink()
    assert f"no images below {photos}/train/cat (looked for .jpg" in folder_mistake()


def test_a_class_that_train_lacks(folder_mistake, photos):
    (photos / "val/cat").rename(photos / "val/cats")
    assert f"{photos}/val/cats is a class that {photos}/train lacks; did you mean 'cat'?" in folder_mistake()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_truncated_image(folder_mistake, photos, num_workers, split):
    broken = photos / split / "dog/1.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    message = folder_mistake("--data.num_workers", num_workers, leaves_run=split == "train")
    assert f"{broken} cannot be read as an image" in message


def test_a_text_for_an_image(folder_mistake, photos):
    (photos / "val/dog/1.jpg").write_text("hello")
    assert f"{photos}/val/dog/1.jpg cannot be read as an image: not an image" in folder_mistake()


def test_two_processes_tell_it_once(photos, tmp_path):
    """Only one of them meets the broken image; the other loses its partner."""
    (photos / "train/dog/1.jpg").write_text("hello")
    recipe = ("fit", "--config", "configs/imagenet/convnext_t.yaml", *FOLDER.split(), "--trainer.callbacks", "null")
    two = ("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    options = ("--data.root", photos, "--data.num_workers", "0", "--wandb", "disabled", *two)
    line = [sys.executable, "-m", "cnnbench", *recipe, *options, "--trainer.default_root_dir", tmp_path / "runs"]
    done = subprocess.run([*map(str, line)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    message = f"cnnbench: error: {photos}/train/dog/1.jpg cannot be read as an image: not an image"
    assert [text for text in done.stderr.splitlines() if "error" in text.lower()] == [message]
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------- checkpoints


class _Hostile:
    """Leaves a file where it is unpickled without care."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def truncated(path, checkpoint):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_flipped_bit(path, checkpoint):
    weight = checkpoint["state_dict"]["network.c3.weight"].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(weight) + 2] ^= 1
    path.write_bytes(content)


def hostile(path, checkpoint):
    torch.save(checkpoint | {"state_dict": _Hostile(path.parent / "trace")}, path)


DAMAGES = {
    "cut short": truncated,
    "the checksum of": a_flipped_bit,
    "it is empty": lambda path, checkpoint: path.write_bytes(b""),
    "torch did not write it": lambda path, checkpoint: path.write_text("hello"),
    "not a checkpoint: torch did": lambda path, checkpoint: path.write_bytes(
        pickle.dumps(_Hostile(path.parent / "trace"))
    ),
    "holds bare weights": lambda path, checkpoint: torch.save(checkpoint["state_dict"], path),
    "no pytorch-lightning_version": lambda path, checkpoint: torch.save({"state_dict": {}}, path),
    "which is not run": hostile,
}


@pytest.mark.parametrize("command", ["test", "fit"])
@pytest.mark.parametrize("named", DAMAGES)
def test_damaged_checkpoints(mistake, trained, tmp_path, named, command):
    run = trained("lenet5")
    path = Path(shutil.copy(run.checkpoint, tmp_path))
    DAMAGES[named](path, torch.load(path, weights_only=True))
    message = mistake(command, "--config", run.config, "--ckpt_path", path)
    assert str(path) in message
    assert named in message
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("command", ["test", "validate", "predict", "fit"])
def test_a_checkpoint_of_another_model(mistake, trained, command):
    ours, other = trained("lenet5"), trained("resnet18")
    message = mistake(command, "--config", ours.config, "--ckpt_path", other.checkpoint)
    assert f"{other.checkpoint} holds resnet18 with 10 classes and 1 channels, this run builds lenet5" in message


def test_a_checkpoint_of_other_classes(mistake, trained, tmp_path):
    run = trained("lenet5")
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    checkpoint["cnnbench"]["class_names"] = tuple("abcdefghij")
    torch.save(checkpoint, tmp_path / "letters.ckpt")
    message = mistake("test", "--config", run.config, "--ckpt_path", tmp_path / "letters.ckpt")
    assert "was trained on other classes: 'a', where the data has '0'" in message


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--model.optim.optimizer=sgd", "was trained with optim.optimizer 'adamw', this run has 'sgd'"),
        ("--model.optim.sched=poly", "was trained with optim.sched 'cosine', this run has 'poly'"),
        ("--trainer.max_epochs=1", "has reached the end of training already (trainer.max_epochs 1"),
    ],
)
def test_what_cannot_be_trained_on(mistake, trained, option, named):
    run = trained("lenet5")
    words = ("--ckpt_path", run.checkpoint, "--trainer.max_epochs=2", option)
    assert named in mistake("fit", "--config", run.config, *words)


def test_a_checkpoint_that_is_not_there_names_those_near_it(mistake, trained):
    run = trained("lenet5")
    words = ("test", "--config", run.config, "--ckpt_path")
    assert f"did you mean '{run.checkpoint}'" in mistake(*words, run.checkpoint.with_name("best.pt"))
    message = mistake(*words, run.config.parent)
    assert f"{run.config.parent} is a directory, not a checkpoint; did you mean" in message
    assert str(run.checkpoint) in message


def test_a_run_for_a_config_names_its_config(mistake, trained):
    run = trained("lenet5")
    message = mistake("test", "--config", run.config.parent, "--ckpt_path", run.checkpoint)
    assert f"is a directory, not a config; did you mean '{run.config}'?" in message
    assert f"{run.checkpoint} is not a config" in mistake("test", "--config", run.checkpoint)


# ---------------------------------------------------------------------- writing, stopping, debugging


@pytest.mark.parametrize("below", ["", "runs"])
def test_a_file_in_the_way_of_the_runs(tmp_path, capsys, below):
    (tmp_path / "file").write_text("precious")
    root = tmp_path / "file" / below
    assert main([*LENET5, "--wandb", "disabled", "--trainer.default_root_dir", str(root)]) == 2
    assert f"cannot write the run's directory {root}/lenet5/" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "precious"


def test_a_disk_that_fills(mistake, monkeypatch):
    """What was written stays whole, and no part of a file is left."""

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = mistake(*LENET5, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", leaves_run=True)
    directory = Path(message.removeprefix("cnnbench: error: cannot write ").partition(": No space left")[0])
    assert not any((directory / "checkpoints").iterdir())


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("CNNBENCH_DEBUG", "1")
    assert main([*LENET5, "--model.name", "resnet19"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith(
        "cnnbench: error: unknown model 'resnet19'; did you mean 'resnet18', 'resnet152' or 'resnet101'?\n"
    )


def test_our_own_mistakes_keep_their_traceback(tmp_path, monkeypatch):
    def broken(*args):
        raise ValueError("ours")

    monkeypatch.setattr("cnnbench.tasks.classification.ClassificationTask.training_step", broken)
    with pytest.raises(ValueError, match="ours"):
        main([*LENET5, "--wandb", "disabled", "--trainer.default_root_dir", str(tmp_path)])


def test_ctrl_c_keeps_the_last_checkpoint(tmp_path):
    options = ("--trainer.max_epochs", "1000", "--wandb", "disabled", "--trainer.default_root_dir", str(tmp_path))
    command = [sys.executable, "-m", "cnnbench", *LENET5, *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (found := list(tmp_path.rglob("last.ckpt"))) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert found, "no checkpoint within two minutes"
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"--ckpt_path {found[0]}" in err
    assert torch.load(found[0], weights_only=True)["global_step"] > 0


def test_a_reader_who_leaves():
    command = f"{sys.executable} -u -m cnnbench models lenet5 | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""
