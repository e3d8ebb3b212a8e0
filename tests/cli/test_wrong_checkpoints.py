"""Checkpoints that are damaged, hostile, of another model or not there: the line names them and what is wrong."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch


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


def test_damage_is_named_before_other_settings_are(mistake, trained, tmp_path):
    run = shutil.copytree(trained("lenet5").config.parent, tmp_path / "run")
    truncated(run / "checkpoints/last.ckpt", None)
    options = ("--model.optim.lr", 0.1, "--ckpt_path", run / "checkpoints/last.ckpt")
    assert "cut short" in mistake("fit", "--config", run / "config.yaml", *options)


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


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
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
        ("--model.optim.optimizer=sgd", "was trained with other settings: model.optim.optimizer adamw, now sgd;"),
        ("--model.name=resnet18", "was trained with other settings: model.name lenet5, now resnet18;"),
        ("--trainer.max_epochs=1", "has reached the end of training already (trainer.max_epochs 1"),
    ],
)
def test_what_cannot_be_trained_on(mistake, trained, option, named):
    run = trained("lenet5")
    words = ("--ckpt_path", run.checkpoint.with_name("last.ckpt"), "--trainer.max_epochs=2", option)
    assert named in mistake("fit", "--config", run.config, *words)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--model.optim.optimizer=sgd", "was trained with optim.optimizer 'adamw', this run has 'sgd'"),
        ("--model.optim.sched=poly", "was trained with optim.sched 'cosine', this run has 'poly'"),
        ("--model.name=resnet18", "holds lenet5 with 10 classes and 1 channels, this run builds resnet18"),
    ],
)
def test_what_cannot_be_trained_on_where_the_config_of_its_run_is_not_there(mistake, trained, tmp_path, option, named):
    run = trained("lenet5")
    path = shutil.copy(run.checkpoint, tmp_path)
    assert named in mistake("fit", "--config", run.config, "--ckpt_path", path, "--trainer.max_epochs=2", option)


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
