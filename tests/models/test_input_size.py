"""Images that are too small are refused by name and size, for networks of any author."""

import pytest
import torch

import cnnbench.models as models
from cnnbench.errors import UserError
from cnnbench.models.multi_task import create_multi_task

TOO_SMALL = [
    (
        "lenet5",
        "cnnbench",
        (28, 28),
        "images of 28x28 pixels are too small for lenet5: each side needs .* 32",
    ),
    ("lenet5", "timm", (28, 28), "for lenet5: each side needs at least 32"),
    ("convnext_tiny", "cnnbench", (16, 200), "16x200 pixels are too small for convnext_tiny: .* at least 32"),
    ("convnext_tiny", "timm", (31, 31), "at least 32"),
    ("convnext_tiny", "torchvision", (8, 8), "at least 32"),
    ("inception_v3", "timm", (32, 32), "for inception_v3: each side needs at least 75"),
    *(
        (
            "vit_tiny_patch16_224",
            source,
            (size, size),
            f"takes images of 224x224 pixels, not {size}x{size}; img_size sets",
        )
        for source in ("cnnbench", "timm")
        for size in (32, 256)
    ),
]


@pytest.mark.parametrize(("name", "source", "size", "message"), TOO_SMALL)
def test_too_small(name, source, size, message):
    network = models.create_model(name, source=source)
    channels = 1 if name == "lenet5" else 3
    with pytest.raises(UserError, match=message):
        models.check_input_size(network, channels, size)
    with pytest.raises((RuntimeError, AssertionError, ValueError)):
        network.eval()(torch.zeros(2, channels, *size))


LARGE_ENOUGH = [("lenet5", {}, 32), ("convnext_tiny", {"patch_size": 1}, 8), ("resnet18", {}, 8)]


@pytest.mark.parametrize(("name", "kwargs", "size"), LARGE_ENOUGH)
def test_large_enough(name, kwargs, size):
    """The question leaves the network and the random numbers as they were."""
    network = models.create_model(name, **kwargs)
    channels = 1 if name == "lenet5" else 3
    random_state = torch.get_rng_state()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    models.check_input_size(network, channels, (size, size))
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(random_state, torch.get_rng_state())
    assert network(torch.zeros(2, channels, size, size)).isfinite().all()


def test_a_failure_that_no_size_mends_is_left_alone():
    models.check_input_size(models.create_model("resnet18"), 5, (64, 64))


@pytest.mark.parametrize("source", ["cnnbench", "timm"])
@pytest.mark.parametrize("size", [(28, 28), (48, 32), (64, 64)])
def test_size_that_an_argument_set(source, size):
    """The size that a network was built for is told, not that of its published weights."""
    network = models.create_model("vit_tiny_patch16_224", source=source, img_size=(32, 48), patch_size=8, depth=1)
    models.check_input_size(network, 3, (32, 48))
    with pytest.raises(UserError, match="takes images of 32x48 pixels, not {}x{};".format(*size)):
        models.check_input_size(network, 3, size)


@pytest.mark.parametrize("source", ["cnnbench", "timm"])
def test_what_stands_on_a_backbone_takes_the_backbones_size(source):
    network = create_multi_task("vit_tiny_patch16_224", heads=["box"], num_classes=3, source=source, img_size=32)
    models.check_input_size(network, 3, (32, 32))
    with pytest.raises(UserError, match="takes images of 32x32 pixels, not 64x64; img_size sets another"):
        models.check_input_size(network, 3, (64, 64))
