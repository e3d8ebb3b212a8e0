"""A run that several files of tests look at, and weights to begin from."""

import pytest
import torch
from finetuning_runs import SMALL
from tracked import TrackedRun, fit

from cnnbench import create_model


@pytest.fixture(scope="session")
def offline_run(tmp_path_factory: pytest.TempPathFactory) -> TrackedRun:
    """A run without a login: nothing was said of W&B at all."""
    return fit(tmp_path_factory.mktemp("offline"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file of weights whose BatchNorm statistics are not those of the start."""
    torch.manual_seed(1)
    network = create_model("resnet18", num_classes=4, in_chans=1, **SMALL)
    network(torch.randn(16, 1, 32, 32))
    path = tmp_path_factory.mktemp("weights") / "pretrained.pth"
    torch.save(network.state_dict(), path)
    return path
