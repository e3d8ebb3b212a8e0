"""The line in somebody's test suite, and weights written under another network's names."""

import pytest
import timm
import torch
import user_nets
from safetensors.torch import load_file
from torch import nn

import cnnbench
from cnnbench.cli.main import main
from cnnbench.compare.converted import copy_aligned


class Renamed(nn.Module):
    """`user_nets.small` under other names, its activation a module of choice."""

    def __init__(self, activation=nn.ReLU):
        super().__init__()
        self.head = nn.Linear(4, 5)  # registered before what runs before it
        self.stem = nn.Conv2d(3, 4, 3)
        self.act = activation()

    def forward(self, x):
        return self.head(self.act(self.stem(x)).mean((2, 3)))


@pytest.mark.parametrize("model", [Renamed, Renamed(), lambda: Renamed()])
def test_equal_networks_pass(model):
    cnnbench.assert_parity(model, user_nets.small, input_size=(3, 16, 16))


def test_the_failure_names_the_place_and_the_cause():
    with pytest.raises(AssertionError) as failure:
        cnnbench.assert_parity(lambda: Renamed(nn.GELU), user_nets.small, input_size=(3, 16, 16))
    lines = str(failure.value).splitlines()
    assert len(lines) <= 4
    assert lines[0].endswith(" does not equal small")
    assert lines[1] == "act (theirs: 1): GELU (exact), theirs ReLU"
    assert lines[2].startswith("inputs agree to ")
    assert "of 4 tensors lie behind it" in lines[2]


def test_a_module_is_held_against_a_name_and_stays_as_it_is():
    network = timm.create_model("test_resnet")
    network.layer3[0].bn1.eps = 1e-3
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(AssertionError, match=r"layer3\.0\.bn1: eps 0.001, theirs 1e-05"):
        cnnbench.assert_parity(network, "timm/test_resnet", input_size=(3, 40, 40))
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_what_cannot_be_compared_is_a_users_mistake():
    with pytest.raises(cnnbench.UserError, match="small has 5 classes and seven has 7 classes"):
        cnnbench.assert_parity(user_nets.small, user_nets.seven, input_size=(3, 16, 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_size": 64}, r"`input_size` is \(channels, height, width\): for 64 pixels `image_size=64`"),
        ({"input_size": (64, 64)}, r"`input_size` is \(64, 64\), but must be \(channels, height, width\)"),
        ({"size": 64}, "unknown setting 'size'; did you mean '(image|input)_size'"),
        ({"tolerance": 1e-3}, "unknown setting 'tolerance'; there is 'image_size'"),
        ({"image_size": 0}, "`image_size` is 0, but must be at least 1"),
    ],
)
def test_a_wrong_setting_is_a_users_mistake(settings, message):
    with pytest.raises(cnnbench.UserError, match=message):
        cnnbench.assert_parity(user_nets.small, user_nets.small, **settings)


def test_settings_are_those_of_compare():
    cnnbench.assert_parity(Renamed, user_nets.small, image_size=16)
    cnnbench.assert_parity(user_nets.small, user_nets.seven, image_size=16, num_classes=7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "target is 3, but must be a torch.nn.Module"),
        (("timm/resnet18",), "target is 'timm/resnet18', but must be a torch.nn.Module"),
        ((user_nets.small(7), torch.randn(2, 3, 8, 8)), "5 classes, theirs 7: give both one `num_classes`"),
        ((user_nets.small(), 224), "images is 224, but must be a tensor"),
    ],
)
def test_align_tells_what_it_takes(arguments, message):
    with pytest.raises(cnnbench.UserError, match=message):
        cnnbench.align(user_nets.small(), *arguments)


def test_weights_are_written_under_the_other_networks_names(tmp_path, capsys):
    path = tmp_path / "small.safetensors"
    words = ("test_assertion:Renamed", "--against", "user_nets:small", "--image-size", "16", "--checks", "parity")
    torch.manual_seed(0)
    assert main(["compare", *words, "--save-aligned", str(path)]) == 0
    assert capsys.readouterr().out.endswith(f"{path}\n")
    small = user_nets.small()
    small.load_state_dict(load_file(path), strict=True)
    assert not torch.equal(small[0].weight, user_nets.small()[0].weight)


def test_the_weights_of_one_network_go_into_another():
    ours, theirs, images = Renamed(), user_nets.small(), torch.randn(2, 3, 24, 24)
    copy_aligned(ours, theirs)
    torch.testing.assert_close(ours(images), theirs(images))


def test_weights_without_a_counterpart_are_a_users_mistake():
    theirs = user_nets.small()
    theirs.register_parameter("more", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(cnnbench.UserError, match="the weights of ours do not all fit theirs: theirs only: more"):
        copy_aligned(user_nets.small(), theirs)
