"""The parity check catches networks that are wrong: each mistake is planted into a copy of ours.

A row is a model and a function that spoils it. The mistakes do not touch the state dict, so that nothing but
what the network computes can give them away.
"""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from parity import TOLERANCE, compare, relative_errors
from torch import Tensor, nn

import cnnbench.models as models
from cnnbench.layers import NormMlpHead


class NormFirstHead(NormMlpHead):
    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.fc(self.flatten(self.global_pool(self.norm(x))))


SMALL = {
    "lenet5": {},
    "resnet18": {"channels": (8, 16, 24, 32), "layers": (2, 1, 1, 1)},
    "resnet50": {"channels": (8, 16, 24, 32), "layers": (1, 1, 2, 1)},
    "convnext_tiny": {"dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1)},
}


def change(path: str, **attributes) -> Callable[[nn.Module], None]:
    """Set attributes of a module."""

    def plant(model: nn.Module) -> None:
        for name, value in attributes.items():
            assert getattr(model.get_submodule(path), name) != value
            setattr(model.get_submodule(path), name, value)

    return plant


def replace(path: str, new: Callable[[], nn.Module]) -> Callable[[nn.Module], None]:
    """Put another module in the place of one without weights."""
    return lambda model: model.set_submodule(path, new())


def after(path: str, function: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Callable[[nn.Module], None]:
    """Apply a function of (module, input, output) to a module's output."""

    def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return function(module, args[0], output)

    return lambda model: model.get_submodule(path).register_forward_hook(hook)


def move_stride(source: str, target: str) -> Callable[[nn.Module], None]:
    """Let one convolution stride in another's place."""

    def plant(model: nn.Module) -> None:
        model.get_submodule(source).stride, model.get_submodule(target).stride = (1, 1), (2, 2)

    return plant


def lost_bias(path: str) -> Callable[[nn.Module], None]:
    return after(path, lambda module, x, y: y - module.bias.reshape(1, -1, *[1] * (y.ndim - 2)))


def without_residual(path: str) -> Callable[[nn.Module], None]:
    """Cancel what a block adds: its output becomes its input's shortcut alone."""
    return after(path, lambda module, x, y: torch.relu(module.downsample(x)))


MISTAKES = {
    "resnet18": {
        "BatchNorm eps 1e-3": change("bn1", eps=1e-3),
        "BatchNorm eps 1e-6 in the last block": change("layer4.0.bn2", eps=1e-6),
        "BatchNorm momentum 0.01": change("layer2.0.bn1", momentum=0.01),
        "no ReLU inside a block": replace("layer1.1.act1", nn.Identity),
        "no ReLU after the addition": replace("layer2.0.act2", nn.Identity),
        "ReLU6 for ReLU": replace("layer3.0.act1", nn.ReLU6),
        "stride in the second convolution": move_stride("layer2.0.conv1", "layer2.0.conv2"),
        "max pool without padding": change("maxpool", padding=0),
        "2x2 max pool": change("maxpool", kernel_size=2, padding=0),
        "average pool in the stem": replace("maxpool", partial(nn.AvgPool2d, 3, 2, 1)),
        "a branch that adds nothing": without_residual("layer1.0"),
        "replicated padding": change(
            "layer1.0.conv1", padding_mode="replicate", _reversed_padding_repeated_twice=[1] * 4
        ),
        "dropout left on": change("head_drop", p=0.1),
        "drop path left on": change("layer4.0.drop_path", drop_prob=0.5),
    },
    "resnet50": {
        "no middle ReLU": replace("layer2.0.act2", nn.Identity),
        "stride in the first 1x1": move_stride("layer3.0.conv2", "layer3.0.conv1"),
        "stride in the last 1x1": move_stride("layer3.0.conv2", "layer3.0.conv3"),
        "shortcut's BatchNorm eps": change("layer1.0.downsample.1", eps=1e-6),
        "shortcut activated": after("layer1.0.downsample", lambda module, x, y: torch.relu(y)),
        "max pool at the end": change("global_pool", pool_type="max"),
    },
    "convnext_tiny": {
        "LayerNorm eps 1e-5 in a block": change("stages.2.blocks.1.norm", eps=1e-5),
        "LayerNorm eps 1e-5 in the stem": change("stem.1", eps=1e-5),
        "LayerNorm eps 1e-5 in the head": change("head.norm", eps=1e-5),
        "ReLU for GELU": replace("stages.0.blocks.0.mlp.act", nn.ReLU),
        "tanh GELU": replace("stages.3.blocks.0.mlp.act", partial(nn.GELU, approximate="tanh")),
        "SiLU for GELU": replace("stages.1.blocks.0.mlp.act", nn.SiLU),
        "no layer scale": after(
            "stages.1.blocks.0", lambda block, x, y: x + (y - x) / block.gamma.reshape(1, -1, 1, 1)
        ),
        "an activation after the depthwise convolution": after(
            "stages.0.blocks.0.conv_dw", lambda module, x, y: nn.functional.gelu(y)
        ),
        "norm after the downsampling convolution": after("stages.1.downsample.0", lambda module, x, y: x + 0.01 * y),
        "a lost bias": lost_bias("stages.1.blocks.0.conv_dw"),
        "norm before the pooling": change("head", __class__=NormFirstHead),
        "dropout left on": change("head.drop", p=0.1),
    },
    "lenet5": {
        "ReLU for tanh": replace("act3", nn.ReLU),
        "no activation after C5": replace("act5", nn.Identity),
        "no activation after F6": replace("head.pre_logits.act", nn.Identity),
        "the paper's scaled tanh": after("c1", lambda module, x, y: y * 2 / 3),
        "max pooling": replace("s2", partial(nn.MaxPool2d, 2)),
        "overlapping pooling": change("s4", kernel_size=3, padding=1),
        "a lost bias": lost_bias("c3"),
    },
}


@pytest.fixture(scope="module")
def pairs():
    return {
        name: [models.create_model(name, source=s, num_classes=10, **kwargs) for s in ("cnnbench", "timm")]
        for name, kwargs in SMALL.items()
    }


def images_for(name: str) -> Tensor:
    shape = (3, 1, 32, 32) if name == "lenet5" else (3, 3, 64, 64)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SMALL)
def test_a_copy_without_mistake_passes(pairs, name):
    ours_model, theirs_model = pairs[name]
    assert compare(copy.deepcopy(ours_model), theirs_model, images_for(name)).equal


@pytest.mark.parametrize(
    ("name", "mistake"), [(name, mistake) for name, mistakes in MISTAKES.items() for mistake in mistakes]
)
def test_mistake_is_caught(pairs, name, mistake):
    ours_model, theirs_model = pairs[name]
    wrong_model = copy.deepcopy(ours_model)
    MISTAKES[name][mistake](wrong_model)
    parity = compare(wrong_model, theirs_model, images_for(name))
    assert parity.worst[1] > 1e3 * TOLERANCE, f"the worst error is {parity.worst}"


def test_another_order_of_additions_passes(pairs):
    """What is right but rounds differently is not taken for a mistake."""
    ours_model, theirs_model = copy.deepcopy(pairs["convnext_tiny"])

    def mlp_by_halves(mlp: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        hidden = mlp.act(mlp.fc1(x))
        halves = zip(hidden.chunk(2, -1), mlp.fc2.weight.chunk(2, -1), strict=True)
        return sum(half @ weight.T for half, weight in halves) + mlp.fc2.bias

    after("stages.2.blocks.0.mlp", mlp_by_halves)(ours_model)
    parity = compare(ours_model, theirs_model, images_for("convnext_tiny"))
    assert parity.equal
    assert parity.worst[1] > 0


def test_a_gradient_that_is_zero_but_for_rounding_is_judged_by_its_layer():
    theirs = {"gradient/conv.weight": torch.tensor([1.0, -2.0]), "gradient/conv.bias": torch.tensor([1e-17])}
    rounding = relative_errors({**theirs, "gradient/conv.bias": torch.tensor([-3e-17])}, theirs)
    wrong = relative_errors({**theirs, "gradient/conv.bias": torch.tensor([1e-8])}, theirs)
    assert rounding["gradient/conv.bias"] < TOLERANCE < wrong["gradient/conv.bias"]


@pytest.mark.parametrize("spoil", ["a parameter more", "a parameter less"])
def test_state_dict_that_differs_is_caught(pairs, spoil):
    ours_model, theirs_model = copy.deepcopy(pairs["lenet5"])
    if spoil == "a parameter more":
        ours_model.register_parameter("more", nn.Parameter(torch.zeros(1)))
    else:
        ours_model.c1.bias = None
    parity = compare(ours_model, theirs_model, images_for("lenet5"))
    assert not parity.equal
    assert parity.key_differences
