"""timm's model interface, beside the reference's own answers: attributes, head, channels, published weights."""

import pytest
import timm
import torch
from contract import NAMES, arguments_of, beside_timm, create, every_architecture, ours_and_theirs
from families import AS_RESET, REORDERED, SMALL, images_for, reference_source
from safetensors.torch import save_file
from timm.models import group_parameters
from torch import nn

import cnnbench.models as models


@beside_timm
def test_attributes(name):
    ours_model, theirs_model = ours_and_theirs(name, num_classes=7)
    for attribute in ("num_classes", "num_features", "head_hidden_size"):
        assert getattr(ours_model, attribute) == getattr(theirs_model, attribute)
    assert list(ours_model.feature_info) == list(theirs_model.feature_info)
    assert ours_model.default_cfg is ours_model.pretrained_cfg
    weight = ours_model.get_submodule(ours_model.pretrained_cfg["classifier"]).weight
    assert weight is ours_model.get_classifier().weight
    assert ours_model.get_submodule(ours_model.pretrained_cfg["first_conv"]).weight.ndim == 4


@beside_timm
def test_pretrained_cfg_is_the_references(name):
    ours, theirs = models.pretrained_cfg(name), models.pretrained_cfg(name, "timm")
    assert {**ours, "architecture": ""} == {**theirs, "architecture": ""}
    assert {"mean", "std", "interpolation", "crop_pct", "input_size", "pool_size"} <= ours.keys()


@every_architecture
def test_pretrained_cfg_tells_pool_size_and_ends(name):
    cfg = models.pretrained_cfg(name)
    with torch.device("meta"):
        model = models.create_model(name).eval()
        features = model.forward_features(torch.empty(1, *cfg["input_size"]))
    if features.ndim == 4:  # not tokens
        assert features.shape[2:] == tuple(cfg["pool_size"])
    assert model.get_submodule(cfg["first_conv"]).weight.ndim == 4


@beside_timm
def test_head_in_parts(name):
    ours_model, theirs_model = ours_and_theirs(name)
    images = images_for(name, 2)
    features = ours_model.forward_features(images)
    torch.testing.assert_close(features, theirs_features(theirs_model, images), rtol=0, atol=0)
    before = ours_model.forward_head(features, pre_logits=True)
    assert before.shape == (2, ours_model.head_hidden_size)
    classifier = ours_model.get_classifier()
    before = before.reshape(*before.shape, *[1] * (classifier.weight.ndim - 2))  # a 1x1 convolution wants a map
    logits, theirs_logits = classifier(before).flatten(1), theirs_model(images)
    rounding = 1e-5 * theirs_logits.abs().max().item() if name in REORDERED else 0
    torch.testing.assert_close(logits, theirs_logits, rtol=0, atol=rounding)


def theirs_features(theirs_model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    if hasattr(theirs_model, "forward_features"):
        return theirs_model.forward_features(images)
    for layer in list(theirs_model.children())[:-1]:
        images = layer(images)
    return images


@every_architecture
@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("global_pool", [None, "", "max"])
def test_reset_classifier(name, num_classes, global_pool):
    """A network with a new head is the network that was built with that head."""
    kwargs = {} if global_pool is None else {"global_pool": global_pool}
    if kwargs.keys() - arguments_of(name):
        pytest.skip("this architecture has one pooling only")
    built = create(name, num_classes=num_classes, **kwargs, **AS_RESET.get(name, {})).eval()
    reset = create(name).eval()
    reset.reset_classifier(num_classes, global_pool)
    reset.load_state_dict(built.state_dict(), strict=True)
    if global_pool == "" and isinstance(built.get_classifier(), nn.Linear):
        pytest.skip("a linear layer on a feature map that is not pooled: the reference cannot either")
    torch.testing.assert_close(reset(images_for(name, 2)), built(images_for(name, 2)), rtol=0, atol=0)
    for attribute in ("num_classes", "num_features", "head_hidden_size"):
        assert getattr(reset, attribute) == getattr(built, attribute)


def test_reset_classifier_keeps_the_hidden_layer():
    model = models.create_model("lenet5").eval()
    images = images_for("lenet5", 2)
    before = model.forward_head(model.forward_features(images), pre_logits=True)
    model.reset_classifier(0, global_pool="")
    torch.testing.assert_close(model(images).flatten(1), before)


def test_reset_classifier_keeps_type_and_device():
    for name in NAMES:
        model = create(name).to("meta", torch.float64)
        model.reset_classifier(3)
        assert {(p.dtype, p.device.type) for p in model.parameters()} == {(torch.float64, "meta")}


@every_architecture
@pytest.mark.parametrize("in_chans", [1, 4])
def test_in_chans(name, in_chans):
    model = create(name, in_chans=in_chans, num_classes=5)
    assert model.eval()(images_for(name, 2)[:, :1].repeat(1, in_chans, 1, 1)).shape == (2, 5)


@every_architecture
def test_through_timm(name):
    model = timm.create_model(f"cnnbench_{name}", num_classes=5).eval()
    assert type(model) is models.model_info(name).network
    assert model(images_for(name, 2, full_size=True)).shape == (2, 5)
    assert f"cnnbench_{name}" in timm.list_models("cnnbench_*")
    cfg = models.pretrained_cfg(name)
    assert timm.data.resolve_data_config({}, model=model)["mean"] == cfg["mean"]


@every_architecture
def test_published_weights_load_through_timm(name, tmp_path):
    """By timm's own loader, from a file in the place of its hub: other classes, another number of channels."""
    theirs_model = create(name, reference_source(name))
    save_file(theirs_model.state_dict(), tmp_path / "model.safetensors")
    overlay = {"file": str(tmp_path / "model.safetensors"), "hf_hub_id": None, "url": ""}
    cfg = models.pretrained_cfg(name)
    small = SMALL.get(name, {})
    loaded = timm.create_model(f"cnnbench_{name}", pretrained=True, pretrained_cfg_overlay=overlay, **small)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in theirs_model.state_dict().items())
    in_chans = 1 if cfg["input_size"][0] == 3 else 3
    other = timm.create_model(
        f"cnnbench_{name}", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=5, in_chans=in_chans, **small
    )
    changed = {key for key, value in other.state_dict().items() if value.shape != theirs_model.state_dict()[key].shape}
    assert changed == {f"{cfg['first_conv']}.weight", f"{cfg['classifier']}.weight", f"{cfg['classifier']}.bias"}


@every_architecture
def test_layers_of_layer_wise_learning_rates(name):
    """Numbered as timm numbers its own; torchvision's networks tell none, there every layer of features counts."""
    with torch.device("meta"):
        ours = create(name)
        theirs = create(name, reference_source(name))
    layers = group_parameters(ours, ours.group_matcher(), reverse=True)
    if hasattr(theirs, "group_matcher"):
        assert layers == group_parameters(theirs, theirs.group_matcher(), reverse=True)
    classifier = {f"{ours.pretrained_cfg['classifier']}.{part}" for part in ("weight", "bias")}
    assert max(layers.values()) > 2
    assert {layers[key] for key in classifier} == {max(layers.values())}
    assert layers[ours.pretrained_cfg["first_conv"] + ".weight"] == 0
