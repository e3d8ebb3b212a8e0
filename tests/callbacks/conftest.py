"""A run that several files of tests look at."""

import pytest
from tracked import TrackedRun, fit


@pytest.fixture(scope="session")
def offline_run(tmp_path_factory: pytest.TempPathFactory) -> TrackedRun:
    """A run without a login: nothing was said of W&B at all."""
    return fit(tmp_path_factory.mktemp("offline"))
