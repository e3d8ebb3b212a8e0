"""The registry, the sources behind a name, and what a user's mistake is answered with."""

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import cnnbench.models as models
from cnnbench.errors import UserError
from cnnbench.models import registry

PAPER = models.Paper("A Paper", "A. Author", 2024, "https://example.org")


class Tiny(nn.Module):
    """As little as a user may write."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, width: int = 4) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv = nn.Conv2d(in_chans, width, 3)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.fixture
def clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_models", dict(registry._models))


def test_list_models_in_natural_order():
    resnets = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    assert models.list_models("resnet[0-9]*") == resnets
    assert models.list_models("nothing*") == []


def test_model_info():
    info = models.model_info("resnet50")
    assert (info.name, info.architecture, info.reference) == ("resnet50", "resnet", "timm/resnet50")
    assert info.paper.year == 2015
    assert info.kwargs["layers"] == (3, 4, 6, 3)
    with pytest.raises(FrozenInstanceError):
        info.name = "other"


def test_every_model_has_a_paper_and_belongs_to_its_file():
    for name in models.list_models():
        info = models.model_info(name)
        assert info.paper.url.startswith("https://")
        assert info.network.__module__ == f"cnnbench.models.{info.architecture}"
        assert len(Path(sys.modules[info.network.__module__].__file__).read_text().splitlines()) <= 220


@pytest.mark.parametrize(
    ("name", "source", "package"),
    [
        ("resnet18", "cnnbench", "cnnbench.models.resnet"),
        ("resnet18", "timm", "timm.models.resnet"),
        ("resnet18", "torchvision", "torchvision.models.resnet"),
        ("lenet5", "timm", "cnnbench.models.references"),
        ("vgg11", "timm", "timm.models.vgg"),
        ("vgg11", "torchvision", "torchvision.models.vgg"),
    ],
)
def test_sources(name, source, package):
    with torch.device("meta"):
        model = models.create_model(name, source=source, num_classes=5)
    assert type(model).__module__ == package
    assert model.num_classes == 5
    assert model.pretrained_cfg["mean"] == models.pretrained_cfg(name, source)["mean"]


def test_none_stands_for_the_default():
    assert models.create_model("lenet5", num_classes=None, drop_rate=None).num_classes == 10


def test_published_weights_are_timms():
    ours = models.pretrained_cfg("convnext_tiny")
    assert ours["hf_hub_id"] == timm.models.get_pretrained_cfg("convnext_tiny").hf_hub_id
    assert models.pretrained_cfg("resnet50.tv_in1k")["hf_hub_id"] == "timm/resnet50.tv_in1k"
    assert "cnnbench_resnet50.tv_in1k" in timm.list_pretrained("cnnbench_resnet50*")


def test_pretrained_loads_a_published_file(tmp_path):
    """The reference's weights, saved as timm publishes them, load into ours; another head or stem adapts."""
    theirs_model = models.create_model("resnet18", source="timm").eval()
    torch.save(theirs_model.state_dict(), tmp_path / "weights.pth")
    overlay = {"file": str(tmp_path / "weights.pth"), "hf_hub_id": None, "url": None}
    ours_model = models.create_model("resnet18", pretrained=True, pretrained_cfg_overlay=overlay).eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours_model(images), theirs_model(images), rtol=0, atol=0)
    grey = models.create_model("resnet18", pretrained=True, pretrained_cfg_overlay=overlay, in_chans=1, num_classes=4)
    torch.testing.assert_close(grey.conv1.weight, theirs_model.conv1.weight.sum(1, keepdim=True))
    assert grey.fc.out_features == 4


def test_weights_that_cannot_be_fetched(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network\nand more")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", refuse)
    with pytest.raises(UserError, match=r"the weights of resnet18 could not be loaded; .*: no network$"):
        models.create_model("resnet18", pretrained=True)


BAD_INPUT = {
    "model": ({"name": "resnet5O"}, "unknown model 'resnet5O'; did you mean 'resnet50', "),
    "model of timm": ({"name": "xception41"}, "unknown model 'xception41'; timm has it: source='timm'"),
    "model in timm": (
        {"name": "resnt18", "source": "timm"},
        "timm has no model 'resnt18'; did you mean 'resnet18'",
    ),
    "model in torchvision": (
        {"name": "lenet5", "source": "torchvision"},
        "torchvision has no model 'lenet5'",
    ),
    "source": ({"name": "lenet5", "source": "tim"}, "unknown source 'tim'; did you mean 'timm'?"),
    "argument": (
        {"name": "resnet18", "drop_path": 0.1},
        "resnet18 has no argument 'drop_path'; did you mean 'drop_path_rate'",
    ),
    "argument of theirs": (
        {"name": "lenet5", "source": "timm", "in_chan": 1},
        "timm's lenet5 has no argument 'in_chan'; did you mean 'in_chans'",
    ),
    "argument of torchvision": (
        {"name": "resnet18", "source": "torchvision", "drop_path_rate": 0.1},
        "torchvision's resnet18 has no argument 'drop_path_rate'",
    ),
    "in_chans": (
        {"name": "resnet18", "in_chans": 0},
        "resnet18 needs in_chans to be a whole number of at least 1, not 0",
    ),
    "num_classes": (
        {"name": "resnet18", "num_classes": "ten"},
        "resnet18 needs num_classes to be a whole number of at least 0, not 'ten'",
    ),
    "colourless torchvision": (
        {"name": "resnet18", "source": "torchvision", "in_chans": 1},
        "torchvision's resnet18 takes in_chans=3 only, not 1",
    ),
    "headless torchvision": (
        {"name": "resnet18", "source": "torchvision", "num_classes": 0},
        "torchvision's resnet18 needs num_classes >= 1, not 0",
    ),
    "feature index": (
        {"name": "convnext_tiny", "features_only": True, "out_indices": (1, 4)},
        "convnext_tiny has the feature maps 0 to 3, not out_indices=(1, 4)",
    ),
    "out_indices alone": (
        {"name": "resnet18", "out_indices": (1,)},
        "resnet18 takes out_indices only together with features_only=True",
    ),
    "pooling": (
        {"name": "resnet18", "global_pool": "mean"},
        "unknown global_pool 'mean'; there is 'avg', 'max', 'avgmax', 'catavgmax', ''",
    ),
    "pooling that widens": (
        {"name": "convnext_tiny", "global_pool": "catavgmax"},
        "'catavgmax' changes the number of channels",
    ),
    "wrong type": ({"name": "resnet18", "layers": "2222"}, "resnet18 cannot be built with layers='2222'"),
    "groups of a basic block": (
        {"name": "resnet18", "cardinality": 32},
        "resnet18 cannot be built with cardinality=32: cardinality and base_width are for bottlenecks",
    ),
    "no weights": ({"name": "lenet5", "pretrained": True}, "lenet5 has no published weights"),
    "tag": (
        {"name": "resnet18.a1_in2k"},
        "unknown weights 'resnet18.a1_in2k'; did you mean 'resnet18.a1_in1k'",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case):
    arguments, message = BAD_INPUT[case]
    with pytest.raises(UserError, match=re.escape(message)) as error:
        models.create_model(**arguments)
    assert "\n" not in str(error.value)


def test_our_own_mistakes_keep_their_type(clean_registry):
    class Broken(nn.Module):
        def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
            raise KeyError("a bug")

    models.register(Broken, PAPER, {"broken": {}}, reference=None)
    with pytest.raises(KeyError, match="a bug"):
        models.create_model("broken", num_classes=3)


def test_register_an_architecture(clean_registry):
    models.register(Tiny, PAPER, {"tiny_4": {}, "tiny_8": {"width": 8}}, reference=None)
    assert models.list_models("tiny*") == ["tiny_4", "tiny_8"]
    assert models.create_model("tiny_8", num_classes=3).conv.out_channels == 8
    assert timm.create_model("cnnbench_tiny_8", num_classes=3)(torch.zeros(2, 3, 8, 8)).shape == (2, 3)
    with pytest.raises(UserError, match="timm has no model 'tiny_8'"):
        models.create_model("tiny_8", source="timm")


def test_register_with_an_assembled_reference(clean_registry):
    models.register(Tiny, PAPER, {"tiny_8": {"width": 8}}, reference=lambda **kwargs: Tiny(width=8, **kwargs))
    theirs_model = models.create_model("tiny_8", source="timm", num_classes=3)
    ours_model = models.create_model("tiny_8", num_classes=3)
    assert theirs_model.state_dict().keys() == ours_model.state_dict().keys()


def test_register_refuses(clean_registry):
    with pytest.raises(UserError, match=r"'resnet18' cannot be registered for .*Tiny: it belongs to .*ResNet"):
        models.register(Tiny, PAPER, {"resnet18": {}})
    with pytest.raises(UserError, match="unknown reference 'timm/resnet19'; did you mean"):
        models.register(Tiny, PAPER, {"resnet19": {}})
    with pytest.raises(UserError, match="starts with 'timm/' or 'torchvision/'"):
        models.register(Tiny, PAPER, {"tiny": {}}, reference="keras/tiny")


def test_registering_again_replaces(clean_registry, recwarn):
    """A notebook cell may run twice."""
    models.register(Tiny, PAPER, {"tiny": {"width": 4}}, reference=None)
    models.register(Tiny, PAPER, {"tiny": {"width": 6}}, reference=None)
    assert models.create_model("tiny").conv.out_channels == 6
    assert not recwarn.list


def test_models_know_nothing_of_lightning_or_the_command_line():
    code = "import sys, cnnbench.models; print({'lightning', 'jsonargparse', 'cnnbench.cli'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
