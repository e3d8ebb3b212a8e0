"""The dispatcher, its help, and `models`."""

import subprocess
import sys

import pytest

from cnnbench import list_models
from cnnbench.cli.main import COMMANDS, main


@pytest.mark.parametrize("words", [["--help"], ["models", "--help"], ["--version"]])
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


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "models"])
def test_help_of_a_command_explains_its_options(name, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert all(option in out for option in ("--config", "--model", "--data", "--trainer", "--wandb", "--ckpt_path"))


def test_models_lists_what_there_is(capsys):
    assert main(["models"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "year", "parameters", "reference", "paper"]
    assert [row.split()[0] for row in rows] == list_models()
    (resnet,) = (row for row in rows if row.startswith("resnet18 "))
    assert resnet.split()[1:4] == ["2015", "11,689,512", "timm/resnet18"]
    assert resnet.rstrip().endswith("Deep Residual Learning for Image Recognition")


def test_models_takes_a_pattern(capsys):
    assert main(["models", "convnext*"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(list_models("convnext*"))


def test_models_without_a_match_names_the_nearest(capsys):
    assert main(["models", "resnet19"]) == 2
    assert "'resnet18'" in capsys.readouterr().err
