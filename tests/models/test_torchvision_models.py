"""torchvision's published weights load whole, and a last layer that starts anew is named."""

import logging
import re

import pytest
import torch
import torchvision

import cnnbench.models as models
from cnnbench.errors import UserError


@pytest.fixture
def publish(monkeypatch):
    """A function that puts weights in the place of those that torchvision would download."""

    def put(state):
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *args, **kwargs: dict(state))

    return put


def create(name, **kwargs):
    return models.create_model(name, source="torchvision", **kwargs)


@pytest.mark.parametrize("num_classes", [1000, 7])
def test_another_number_of_classes(publish, caplog, num_classes):
    """The classifier is the one that the seed gives without weights, and so is everything drawn afterwards."""
    published = torchvision.models.mobilenet_v2().state_dict()
    publish(published)
    drawn = []
    for pretrained in (False, True):
        torch.manual_seed(0)
        loaded = create("mobilenet_v2", pretrained=pretrained, num_classes=num_classes).state_dict()
        drawn.append((loaded["classifier.1.weight"], torch.rand(3)))
    anew = {"classifier.1.weight", "classifier.1.bias"} if num_classes == 7 else set()
    assert all(torch.equal(value, published[key]) for key, value in loaded.items() if key not in anew)
    torch.testing.assert_close(drawn[0][1], drawn[1][1], rtol=0, atol=0)
    line = "torchvision's weights of mobilenet_v2 are for other classes, so classifier.1 starts anew"
    assert [record.message for record in caplog.records] == ([line] if anew else [])
    assert torch.equal(drawn[0][0], drawn[1][0]) == bool(anew)


def test_every_head_that_starts_anew_is_named(publish, caplog):
    publish(torchvision.models.googlenet(init_weights=False).state_dict())
    with caplog.at_level(logging.WARNING), pytest.warns(UserWarning, match="NOT pretrained"):
        create("googlenet", pretrained=True, num_classes=7, aux_logits=True)
    assert caplog.messages[-1].endswith("so aux1.fc2, aux2.fc2, fc start anew")


def test_weights_under_their_older_names(publish):
    """The files of DenseNet call a layer `norm.1` that is `norm1` today, and norms did not count batches yet."""
    today = torchvision.models.densenet121().state_dict()
    older = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): value for key, value in today.items()}
    publish({key: value for key, value in older.items() if not key.endswith("num_batches_tracked")})
    loaded = create("densenet121", pretrained=True).state_dict()
    assert all(torch.equal(value, today[key]) for key, value in loaded.items())


def test_weights_for_other_arguments_are_refused(publish):
    publish(torchvision.models.mobilenet_v2().state_dict())
    with pytest.raises(UserError, match=r"weights of mobilenet_v2 do not fit .* these arguments: see features\.0\.0"):
        create("mobilenet_v2", pretrained=True, width_mult=0.5)
