"""Weights come from files in every usual form; what does not fit is named, and nothing in a file is run."""

import logging
import os

import pytest
import torch
from safetensors.torch import save_file

import cnnbench.models as models
from cnnbench.errors import UserError

SMALL = {"channels": (8, 16, 24, 32), "layers": (1, 1, 1, 1), "num_classes": 7}


def resnet(**kwargs):
    return models.create_model("resnet18", **{**SMALL, **kwargs})


def equal(one, other):
    return all(torch.equal(value, other[key]) for key, value in one.items()) and one.keys() == other.keys()


FORMS = {
    "weights.safetensors": lambda state, path: save_file(state, path),
    "weights.pth": torch.save,
    "timm.pth.tar": lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path),
    "torchvision.pth": lambda state, path: torch.save({"model": state, "epoch": 90}, path),
    "parallel.pth": lambda state, path: torch.save({f"module.{key}": v for key, v in state.items()}, path),
    "best.ckpt": lambda state, path: torch.save(
        {"state_dict": {"val_metrics.x": torch.zeros(1)} | {f"network.{key}": v for key, v in state.items()}}, path
    ),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("source", ["cnnbench", "timm"])
def test_forms(tmp_path, name, source):
    state = resnet().state_dict()
    FORMS[name](state, tmp_path / name)
    assert equal(resnet(source=source, weights=tmp_path / name).state_dict(), state)


def test_other_classes_and_channels(tmp_path, caplog):
    """The classifier starts anew, which is said; the first convolution is adapted as timm adapts it."""
    state = resnet().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    with caplog.at_level(logging.WARNING):
        loaded = resnet(weights=tmp_path / "w.safetensors", num_classes=3, in_chans=1).state_dict()
    assert "fc starts anew" in caplog.text
    torch.testing.assert_close(loaded["conv1.weight"], state["conv1.weight"].sum(1, keepdim=True))
    assert loaded["fc.weight"].shape == (3, 32)
    rest = state.keys() - {"conv1.weight", "fc.weight", "fc.bias"}
    assert all(torch.equal(loaded[key], state[key]) for key in rest)


@pytest.mark.parametrize(
    ("trained_for", "told", "kept"),
    [
        (("a", "b", "c", "d", "e", "f", "g"), tuple("abcdefg"), True),
        (tuple("abcdefg"), tuple("gfedcba"), False),
        (tuple("abcdefg"), tuple("hijklmn"), False),
        (tuple("abcdefg"), None, True),
        (None, tuple("abcdefg"), True),
    ],
)
def test_a_classifier_for_other_classes_of_the_same_number_starts_anew(tmp_path, caplog, trained_for, told, kept):
    state = {f"network.{key}": value for key, value in resnet().state_dict().items()}
    torch.save({"state_dict": state, "cnnbench": {"class_names": trained_for}}, tmp_path / "best.ckpt")
    loaded = resnet(weights=tmp_path / "best.ckpt", class_names=told).state_dict()
    assert torch.equal(loaded["fc.weight"], state["network.fc.weight"]) == kept
    assert torch.equal(loaded["conv1.weight"], state["network.conv1.weight"])
    assert ("best.ckpt: its classifier is for other classes, so fc starts anew" in caplog.text) != kept


def test_published_weights_for_other_classes_are_said_to_be(tmp_path, caplog):
    torch.save(resnet().state_dict(), tmp_path / "w.pth")
    published = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "w.pth"), "num_classes": 7}}
    resnet(**published)
    assert "anew" not in caplog.text
    resnet(**published, num_classes=3)
    assert "the published weights of resnet18 are for 7 classes, so its classifier starts anew" in caplog.text


def test_no_classifier(tmp_path):
    torch.save(resnet().state_dict(), tmp_path / "w.pth")
    assert resnet(weights=tmp_path / "w.pth", num_classes=0)(torch.zeros(2, 3, 32, 32)).shape == (2, 32)


class _RunsCode:
    def __reduce__(self):
        return os.mkdir, ("it-was-run",)


def test_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": resnet().state_dict(), "args": _RunsCode()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth holds more than weights"):
        resnet(weights=tmp_path / "evil.pth")
    assert not (tmp_path / "it-was-run").exists()


def _spoilt(change):
    state = resnet().state_dict()
    change(state)
    return state


WRONG = {
    "of another architecture": (
        lambda: models.create_model("lenet5").state_dict(),
        r"w\.pth does not fit resnet18; missing: conv1\.weight, bn1.* and \d+ more; surplus: c1\.weight, .* more",
    ),
    "one missing": (lambda: _spoilt(lambda s: s.pop("bn1.weight")), r"resnet18; missing: bn1\.weight$"),
    "one more": (lambda: _spoilt(lambda s: s.update(more=torch.ones(1))), r"resnet18; surplus: more$"),
    "another shape": (
        lambda: _spoilt(lambda s: s.update({"layer2.0.bn1.bias": torch.ones(9)})),
        r"layer2\.0\.bn1\.bias is \(9,\) there and \(16,\) here",
    ),
    "no weights": (lambda: {"epoch": 3}, "holds no weights"),
    "a tensor": (lambda: torch.ones(3), "weights"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_fit_is_named(tmp_path, kind):
    content, message = WRONG[kind]
    torch.save(content(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        resnet(weights=tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_damaged_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00 not weights" * 10)
    with pytest.raises(UserError, match=rf"{name}"):
        resnet(weights=tmp_path / name)


def test_refused(tmp_path):
    with pytest.raises(UserError, match=r"there is no file of weights .*nowhere"):
        resnet(weights=tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match="weights and features_only exclude each other"):
        resnet(weights=tmp_path / "w.pth", features_only=True)
    with pytest.raises(UserError, match="weights and pretrained exclude each other"):
        resnet(weights=tmp_path / "w.pth", pretrained=True)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("here", [False, True])
def test_auxiliary_heads_need_not_be_there(tmp_path, there, here):
    """What both have is loaded; an auxiliary head that only the network has, or for other classes, starts anew."""
    state = models.create_model("googlenet", source="torchvision", aux_logits=there, num_classes=7).state_dict()
    torch.save(state, tmp_path / "w.pth")
    loaded = models.create_model("googlenet", aux_logits=here, num_classes=7, weights=tmp_path / "w.pth").state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items() if key in state)
    overlay = {"file": str(tmp_path / "w.pth"), "url": "", "num_classes": 7}
    other = models.create_model(
        "googlenet", aux_logits=here, num_classes=3, pretrained=True, pretrained_cfg_overlay=overlay
    ).state_dict()
    assert torch.equal(other["inception5b.branch1.conv.weight"], state["inception5b.branch1.conv.weight"])


def test_published_weights_see_images_in_their_range():
    """What torchvision rescales in the network, mean and standard deviation say here: both are one function."""
    cfg = models.pretrained_cfg("googlenet")
    assert cfg["mean"] == cfg["std"] == (0.5, 0.5, 0.5)
    assert models.pretrained_cfg("googlenet", "torchvision")["mean"] == cfg["mean"]
    rescaling = models.create_model("googlenet", source="torchvision", transform_input=True, num_classes=7).eval()
    plain = models.create_model("googlenet", num_classes=7).eval()
    plain.load_state_dict(rescaling.state_dict())
    images = torch.rand(2, 3, 64, 64)
    imagenet = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)
    torch.testing.assert_close(plain((images - 0.5) / 0.5), rescaling((images - imagenet[0]) / imagenet[1]))


def test_torchvisions_vgg_is_converted(tmp_path):
    """timm, whose form ours has, lays the fully connected layers out as convolutions."""
    theirs = models.create_model("vgg11", source="torchvision")
    torch.save(theirs.state_dict(), tmp_path / "vgg11.pth")
    ours = models.create_model("vgg11", weights=tmp_path / "vgg11.pth")
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-4, atol=1e-5)


def test_a_damaged_file_is_not_called_dangerous(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"\x80\x02garbage" * 9)
    with pytest.raises(UserError, match=r"w\.pth cannot be read as weights"):
        resnet(weights=tmp_path / "w.pth")


def test_a_part_of_an_auxiliary_head_is_missed_by_name(tmp_path):
    state = models.create_model("googlenet", num_classes=7, aux_logits=True).state_dict()
    del state["aux1.conv.conv.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"googlenet; missing: aux1\.conv\.conv\.weight$"):
        models.create_model("googlenet", num_classes=7, aux_logits=True, weights=tmp_path / "w.pth")
