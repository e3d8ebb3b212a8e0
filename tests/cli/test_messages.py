"""What is printed on standard error."""

import io
import sys

import pytest

from cnnbench.cli.common.comparison_options import SETTINGS, comparison_parser, in_options
from cnnbench.cli.common.messages import WIDTH, say, wrapped

LONG = (
    "cnnbench: error: there is nothing that fits here and it goes on until the line is full of words; try "
    "`python -m cnnbench models 'resnet*'` or --config configs/imagenet/a/very/long/path/of/some/recipe.yaml, or "
    "look at 'a file with spaces.yaml' of timm's"
)


def test_lines_are_broken_between_words_only():
    lines = wrapped(LONG)
    assert len(lines) == 4 and max(map(len, lines)) <= WIDTH
    assert " ".join(map(str.strip, lines)) == LONG
    whole = ("`python -m cnnbench models 'resnet*'`", "--config configs/", "'a file with spaces.yaml'")
    assert all(any(part in line for line in lines) for part in whole)
    assert wrapped(f"see {'x' * 150} there") == ["see", f"  {'x' * 150}", "  there"]


@pytest.mark.parametrize(("terminal", "lines"), [(True, 4), (False, 1)])
def test_only_a_terminal_breaks_lines(terminal, lines, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", stream)
    say(LONG)
    assert len(stream.getvalue().splitlines()) == lines


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("it runs on 3x32x32: `image_size=32`", "it runs on 3x32x32: --image-size 32"),
        ("name one with `against`, such as", "name one with --against, such as"),
        ("`python -m cnnbench models` lists them", "`python -m cnnbench models` lists them"),
        ("f() got seed=3, `x=2`", "f() got seed=3, `x=2`"),
    ],
)
def test_settings_are_options_on_the_command_line(message, said):
    assert in_options(message) == said


def test_every_setting_is_an_option():
    options = comparison_parser()._option_string_actions
    assert all(f"--{name.replace('_', '-')}" in options for name in SETTINGS)
