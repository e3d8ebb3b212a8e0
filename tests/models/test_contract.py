"""timm's model interface, on the smallest model of every architecture, beside the reference's own answers."""

import inspect
import math

import pytest
import timm
import torch
from families import AS_RESET, REORDERED, SMALL, images_for, reference_source
from safetensors.torch import save_file
from torch import nn

import cnnbench.models as models
from cnnbench.layers import Branches, Stage


def smallest_of_each_architecture() -> list[str]:
    """A file may hold what several papers add to one network: the smallest of each paper."""
    smallest: dict[tuple[str, str], tuple[int, str]] = {}
    for name in models.list_models():
        with torch.device("meta"):
            count = sum(p.numel() for p in models.create_model(name, **SMALL.get(name, {})).parameters())
        architecture = (models.model_info(name).architecture, models.model_info(name).paper.title)
        smallest[architecture] = min(smallest.get(architecture, (math.inf, "")), (count, name))
    return sorted(name for _, name in smallest.values())


NAMES = smallest_of_each_architecture()
BESIDE_TIMM = [name for name in NAMES if reference_source(name) == "timm"]  # torchvision's have no such interface
SHARED_WITH_TIMM = [name for name in NAMES if str(models.model_info(name).reference).startswith("timm/")]
every_architecture = pytest.mark.parametrize("name", NAMES)
beside_timm = pytest.mark.parametrize("name", BESIDE_TIMM)


def create(name: str, source: str = "cnnbench", **kwargs) -> nn.Module:
    """The small network that `families` gives for a model."""
    return models.create_model(name, source=source, **{**SMALL.get(name, {}), **kwargs})


def ours_and_theirs(name: str, **kwargs) -> tuple[nn.Module, nn.Module]:
    """Both in evaluation mode, with the same weights, in which no norm hides a branch."""
    ours_model = create(name, **kwargs).eval()
    theirs_model = create(name, reference_source(name), **kwargs).eval()
    for parameter in ours_model.parameters():
        nn.init.normal_(parameter, std=0.1)
    theirs_model.load_state_dict(ours_model.state_dict(), strict=True)
    return ours_model, theirs_model


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
def test_grad_checkpointing_gives_the_same_gradients(name):
    kwargs = {"drop_path_rate": 0.5} if "drop_path_rate" in arguments_of(name) else {}
    model = create(name, num_classes=5, **kwargs)
    plain, checkpointed = (gradients(model, images_for(name, 2), enable) for enable in (False, True))
    torch.testing.assert_close(plain, checkpointed, rtol=0, atol=0)


def test_grad_checkpointing_recomputes():
    calls = []
    model = models.create_model("resnet18", num_classes=5)
    model.layer2[1].conv1.register_forward_hook(lambda *args: calls.append(1))
    gradients(model, images_for("resnet18", 2), enable=False)
    gradients(model, images_for("resnet18", 2), enable=True)
    assert len(calls) == 1 + 2


@every_architecture
def test_grad_checkpointing_keeps_less(name):
    model = create(name, num_classes=5)
    if not any(isinstance(module, Stage | Branches) for module in model.modules()):
        pytest.skip("no row of blocks to compute again")
    kept = [kept_bytes(model, images_for(name, 2), enable) for enable in (False, True)]
    assert kept[1] < kept[0]


def kept_bytes(model: nn.Module, images: torch.Tensor, enable: bool) -> int:
    """The memory that the forward pass keeps for the backward pass, parameters among it."""
    model.set_grad_checkpointing(enable)
    kept: dict[int, int] = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        output = model(images)
    del output
    return sum(kept.values())


def gradients(model: nn.Module, images: torch.Tensor, enable: bool) -> list[torch.Tensor]:
    model.set_grad_checkpointing(enable)
    model.zero_grad()
    torch.manual_seed(0)
    model(images).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def arguments_of(name: str) -> set[str]:
    return set(inspect.signature(models.model_info(name).network).parameters)


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
def test_traces_with_fx(name):
    kwargs = {"drop_path_rate": 0.5} if "drop_path_rate" in arguments_of(name) else {}
    model = create(name, **kwargs)
    traced = torch.fx.symbolic_trace(model)
    outputs = []
    for network in (model, traced):
        torch.manual_seed(0)
        outputs.append(network(images_for(name, 2)))
    torch.testing.assert_close(*outputs, rtol=0, atol=0)


@every_architecture
def test_compiles_as_one_graph(name):
    torch.compiler.reset()
    model = create(name).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images_for(name, 2)), model(images_for(name, 2)), rtol=0, atol=0)


@beside_timm
def test_scripts_where_the_reference_does(name):
    ours_model, theirs_model = ours_and_theirs(name)
    try:
        torch.jit.script(theirs_model)
    except Exception:  # TorchScript raises many kinds
        pytest.skip("the reference does not script")
    images = images_for(name, 2)
    torch.testing.assert_close(torch.jit.script(ours_model)(images), ours_model(images), rtol=1e-5, atol=1e-5)


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
def test_exports(name):
    model = create(name).eval()
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(model, (images_for(name, 2),), dynamic_shapes=({0: batch},))
    images = images_for(name, 5)
    torch.testing.assert_close(exported.module()(images), model(images), rtol=1e-5, atol=1e-5)


@every_architecture
def test_channels_last_stays_channels_last(name):
    """Every feature map of a channels_last input is channels_last: nothing is copied back and forth."""
    model = create(name).eval().to(memory_format=torch.channels_last)
    images = images_for(name, 2)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    for x in model.forward_intermediates(channels_last, intermediates_only=True):
        assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(channels_last), model(images), rtol=1e-4, atol=1e-4)
