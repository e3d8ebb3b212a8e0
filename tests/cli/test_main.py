"""The dispatcher and its help."""

import subprocess
import sys

import pytest

from cnnbench.cli.main import COMMANDS, main


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["models", "--help"],
        ["inspect", "--help"],
        ["compare", "--help"],
        ["bench-data", "--help"],
        ["--version"],
    ],
)
def test_help_imports_nothing_heavy(words):
    """What makes it answer at once; a time is not asserted, since a machine may be slow."""
    heavy = "{'torch', 'lightning', 'timm', 'torchmetrics', 'jsonargparse', 'wandb', 'rich'}"
    code = (
        "import sys; from cnnbench.cli.main import main\n"
        f"try: main({words})\nexcept SystemExit: pass\n"
        f"print('heavy:', {heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: set()\n")


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name in ("fit", "validate", "test", "predict")])
def test_help_of_a_command_explains_its_options(name, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert all(option in out for option in ("--config", "--model", "--data", "--trainer", "--wandb", "--ckpt_path"))


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("--model.optim.help", ["--model.optim.lr LR", "--model.optim.clip_mode"]),
        ("--data.augmentation.help", ["of BatchAugmentation", "of FolderAugmentation", "--data.augmentation.hflip"]),
    ],
)
def test_help_of_settings_within_settings(word, named, capsys):
    with pytest.raises(SystemExit) as left:
        main(["fit", "--config", "configs/lenet5.yaml", word])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert all(text in out for text in named)
    assert ("default:" in out) == (word == "--model.optim.help")  # a data module has defaults of its own
