"""Networks of several tasks: the classifier's features whoever wrote it, heads by name, weights that go over."""

import pytest
import torch

from cnnbench.errors import UserError
from cnnbench.models import create_model
from cnnbench.models.multi_task import create_multi_task
from cnnbench.models.multi_task_heads import HEADS

BACKBONES = [  # name, source, arguments, size of the images
    ("resnet18", "cnnbench", {}, (64, 96)),
    ("vit_tiny_patch16_224", "cnnbench", {"img_size": 64}, (64, 64)),
    ("vgg11", "timm", {}, (224, 224)),
    ("mobilenetv3_small_050", "timm", {}, (64, 64)),
    ("swin_tiny_patch4_window7_224", "timm", {"img_size": 64, "window_size": 4, "depths": (1, 1, 1, 1)}, (64, 64)),
    ("lenet5", "cnnbench", {}, (32, 32)),
]


def built(name="resnet18", heads=tuple(HEADS), **kwargs):
    torch.manual_seed(0)
    return create_multi_task(name, heads=heads, num_classes=kwargs.pop("num_classes", 5), **kwargs)


@pytest.mark.parametrize(("name", "source", "options", "size"), BACKBONES, ids=lambda value: str(value))
def test_its_classes_are_those_of_the_classifier(name, source, options, size):
    network = built(name, source=source, **options).double().eval()
    classifier = create_model(name, source=source, num_classes=5, in_chans=3, **options).double().eval()
    head = {
        f"{classifier_name(classifier)}.{key}": value
        for key, value in network.heads["classification"].state_dict().items()
    }
    own = network.backbone.state_dict()
    shapes = classifier.state_dict()
    classifier.load_state_dict({**own, **{key: value.reshape(shapes[key].shape) for key, value in head.items()}})
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        outputs = network(images)
        torch.testing.assert_close(outputs["classification"], classifier(images), rtol=1e-10, atol=1e-10)
    assert outputs["box"].shape == (2, 4) and outputs["embedding"].shape == (2, 128)
    torch.testing.assert_close(outputs["embedding"].norm(dim=1), torch.ones(2, dtype=torch.float64), rtol=1e-12, atol=0)
    assert outputs["box"].dtype == torch.float64
    x1, y1, x2, y2 = outputs["box"].unbind(1)
    assert (x1 < x2).all() and (y1 < y2).all()


def classifier_name(network):
    name = network.pretrained_cfg["classifier"]
    return name if isinstance(name, str) else name[0]


def test_a_box_head_sees_where_a_token_is():
    """The tokens of a transformer become rows and columns in the order of the image."""
    network = built("vit_tiny_patch16_224", img_size=(32, 64), heads=["box"]).eval()
    tokens = torch.zeros(1, 1 + 2 * 4, 192)
    tokens[0, 1 + 1 * 4 + 3] = 1  # second row, fourth column
    feature_map = network._as_map(tokens, 32, 64)
    assert feature_map.shape == (1, 192, 2, 4)
    assert feature_map[0, 0].nonzero().tolist() == [[1, 3]]


def test_ours_and_timms_backbone_are_the_same_network():
    ours, theirs = built().double(), built(source="timm").double()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for name, value in ours(images).items():
        torch.testing.assert_close(value, theirs(images)[name], rtol=1e-12, atol=1e-12)


def test_learned_weights_are_handed_on_in_training_alone():
    network = built(learns_weights=True)
    images = torch.randn(2, 3, 32, 32)
    assert network(images)["log_variances"].tolist() == [0.0, 0.0, 0.0]
    assert network(images)["log_variances"].requires_grad
    assert set(network.eval()(images)) == set(HEADS)
    assert set(network(images, ["box"])) == {"box"}


def test_what_is_frozen_has_no_gradient_and_keeps_its_statistics():
    network = built()
    network.freeze(backbone=True, heads=["box"])
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network(torch.randn(4, 3, 32, 32))["embedding"].sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[1] for name in learning} == {"classification", "embedding"}


def test_weights_of_a_classifier_go_to_the_backbone(tmp_path, caplog):
    classifier = create_model("resnet18", num_classes=7)
    torch.save(classifier.state_dict(), tmp_path / "resnet18.pth")
    network = built(weights=tmp_path / "resnet18.pth")
    own = network.backbone.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in classifier.state_dict().items() if key in own)
    assert "no weights for the heads box, classification, embedding: they start anew" in caplog.text


def test_weights_of_other_heads_leave_those_alone(tmp_path, caplog):
    former = built(heads=["box", "classification"], learns_weights=True, num_classes=3)
    torch.save(former.state_dict(), tmp_path / "former.pth")
    network = built(weights=tmp_path / "former.pth", heads=["box", "embedding"])
    for key, value in network.state_dict().items():
        assert key.startswith("heads.embedding") or torch.equal(value, former.state_dict()[key])
    assert "no weights for the heads embedding" in caplog.text
    caplog.clear()
    again = built(weights=tmp_path / "former.pth", heads=["box", "classification"], num_classes=4)
    assert "its classifier is for other classes, so heads.classification starts anew" in caplog.text
    assert torch.equal(again.heads["box"].sides.weight, former.heads["box"].sides.weight)


@pytest.mark.parametrize("heads", [["box", "embedding"], ["embedding", "box"], ["box"]])
def test_uncertainty_starts_anew_whether_the_file_fits_or_not(tmp_path, heads):
    former = built(heads=["box", "embedding"], learns_weights=True)
    former.uncertainty.log_variances.data += torch.tensor([1.0, 2.0])
    torch.save(former.state_dict(), tmp_path / "former.pth")
    network = built(weights=tmp_path / "former.pth", heads=heads, learns_weights=True)
    assert network.uncertainty.log_variances.tolist() == [0.0] * len(heads)
    assert torch.equal(network.heads["box"].sides.weight, former.heads["box"].sides.weight)
    assert built(weights=tmp_path / "former.pth", heads=heads).uncertainty is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": ["boxes"]}, "unknown head 'boxes'; did you mean 'box'"),
        ({"heads": []}, "name at least one of classification, box, embedding"),
        ({"heads": ["box", "box"]}, "each once"),
        ({"source": "torchvision"}, "unknown source 'torchvision' of a backbone"),
        ({"name": "lenet5", "source": "timm"}, "timm's lenet5 does not tell its features"),
        ({"name": "resnet81"}, "unknown model 'resnet81'"),
        ({"embeding_dim": 3}, "has no argument 'embeding_dim'"),
        ({"embedding_dim": -3}, "embedding_dim is -3, but must be a whole number of at least 1"),
        ({"box_grid": 0}, "box_grid is 0, but must be a whole number of at least 1"),
        ({"box_channels": "8"}, "box_channels is '8', but must be a whole number of at least 1"),
        ({"box_grid": 2, "heads": ["embedding"]}, "box_grid is for the box head, but the heads are embedding"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        built(**arguments)
