"""Feature maps by every way that timm has to them, beside the reference's."""

import pytest
import torch
from contract import NAMES, beside_timm, create, every_architecture, ours_and_theirs
from families import images_for, reference_source

import cnnbench.models as models

SHARED_WITH_TIMM = [name for name in NAMES if str(models.model_info(name).reference).startswith("timm/")]


@pytest.mark.parametrize("name", SHARED_WITH_TIMM)
@pytest.mark.parametrize(
    "kwargs",
    [{}, {"indices": 2}, {"indices": [0, -1]}, {"indices": [1, 2], "stop_early": True}, {"norm": True}],
    ids=str,
)
def test_forward_intermediates(name, kwargs):
    ours_model, theirs_model = ours_and_theirs(name)
    images = images_for(name, 2)
    ours_x, ours = ours_model.forward_intermediates(images, **kwargs)
    theirs_x, theirs = theirs_model.forward_intermediates(images, **kwargs)
    torch.testing.assert_close([ours_x, *ours], [theirs_x, *theirs], rtol=0, atol=0)
    only = ours_model.forward_intermediates(images, intermediates_only=True, **kwargs)
    torch.testing.assert_close(only, theirs, rtol=0, atol=0)


@every_architecture
def test_forward_intermediates_refuses(name):
    model = create(name)
    with pytest.raises(IndexError, match="no feature map 9"):
        model.forward_intermediates(images_for(name, 2), indices=[9])
    with pytest.raises(ValueError, match="NCHW"):
        model.forward_intermediates(images_for(name, 2), output_fmt="NHWC")


@beside_timm
@pytest.mark.parametrize("indices", [None, (0, -1), 2], ids=str)
def test_features_only(name, indices):
    ours_model, theirs_model = (
        create(name, source, features_only=True, out_indices=indices).eval()
        for source in ("cnnbench", reference_source(name))
    )
    theirs_model.load_state_dict(ours_model.state_dict(), strict=True)
    ours, theirs = ours_model(images_for(name, 2)), theirs_model(images_for(name, 2))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert [x.shape[1] for x in ours] == ours_model.feature_info.channels()
    assert ours_model.feature_info.reduction() == theirs_model.feature_info.reduction()


@every_architecture
def test_channels_last_stays_channels_last(name):
    """Every feature map of a channels_last input is channels_last: nothing is copied back and forth."""
    model = create(name).eval().to(memory_format=torch.channels_last)
    images = images_for(name, 2)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    for x in model.forward_intermediates(channels_last, intermediates_only=True):
        assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(channels_last), model(images), rtol=1e-4, atol=1e-4)
