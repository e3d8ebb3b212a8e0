"""What a run's directory is named after."""

import pytest

from cnnbench.cli.common.run_directory import recipe_name


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("configs/mnist/lenet5.yaml", "mnist/lenet5"),
        ("elsewhere/mine.yaml", "mine"),
        ("runs/mnist/lenet5/20260101-000000/config.yaml", "mnist/lenet5"),  # killed before its first checkpoint
        ("moved/lenet5/20260101-000000/config.yaml", "lenet5"),
        (None, "resnet18"),
    ],
)
def test_runs_are_named_after_their_recipe(tmp_path, config, name):
    (tmp_path / "moved/lenet5/20260101-000000/checkpoints").mkdir(parents=True)
    assert recipe_name(config and tmp_path / config, tmp_path / "runs", default="resnet18") == name
