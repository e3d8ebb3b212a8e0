"""Pages that several tests of the report look at."""

from dataclasses import replace

import pytest
from sample_reports import EVIL, failed_pair, leaderboard, report, trained_pair, unequal_pair

from cnnbench.compare.report.page import page


@pytest.fixture(scope="session")
def everything():
    """A report with every part, and its page."""
    made = leaderboard()
    return made, page(made)


@pytest.fixture(scope="session")
def evil_page():
    """The page of a report in which every text is `EVIL`."""
    parity = unequal_pair().parity
    layers = [replace(layer, module=EVIL) for layer in parity.layers]
    divergence = replace(parity.first_divergence, module=EVIL, reference_module=EVIL, cause=EVIL)
    weights = replace(parity.weights, method=EVIL, differences=[EVIL])
    parity = replace(parity, layers=layers, first_divergence=divergence, weights=weights)
    trained = trained_pair(EVIL)
    contests = {
        name: replace(getattr(trained.speed, name), verdict=EVIL)
        for name in ("forward", "train_step", "served_contest")
    }
    served = tuple(replace(side, options=EVIL) for side in trained.speed.served)
    metrics = [replace(metric, name=EVIL) for metric in trained.training.metrics]
    training = replace(trained.training, config=EVIL, verdict=EVIL, metrics=metrics)
    trained = replace(trained, speed=replace(trained.speed, served=served, **contests), training=training)
    failed = replace(failed_pair(EVIL), error=EVIL)
    made = report(replace(unequal_pair(EVIL), parity=parity), trained, failed, command=EVIL)
    return page(replace(made, environment={EVIL: EVIL, "versions": {EVIL: EVIL}}))
