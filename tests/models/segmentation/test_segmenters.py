"""Segmenters: the paper's sizes, any image, any encoder, twins over timm's, tiles like whole images."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from cnnbench.errors import UserError
from cnnbench.models.segmentation import create_segmenter, list_segmenters, segmented, tiled

SMALL = {"num_classes": 3, "in_chans": 1, "widths": [4, 8, 8, 8, 8]}


def warmed(network):
    """In evaluation, all weights and statistics random."""
    torch.manual_seed(0)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point():
            with torch.no_grad():
                tensor.uniform_(0.5, 1.5) if "var" in name else tensor.normal_(std=0.1)
    return network.double().eval()


def test_all_are_listed():
    assert list_segmenters() == ["unet", "unet_encoder", "unet_paper"]


def test_the_papers_network():
    """Figure 1 and section 2: 572 pixels become 388, by 23 convolutional layers."""
    with torch.device("meta"):
        network = create_segmenter("unet_paper", num_classes=2, in_chans=1)
        assert network(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert sum(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in network.modules()) == 23
    with pytest.raises(UserError, match="570x572 pixels cannot be halved 4 times"):
        network(torch.zeros(1, 1, 570, 572, device="meta"))


def test_the_tutorials_network_has_as_many_parameters():
    """Those that https://github.com/milesial/Pytorch-UNet prints of 3 channels and 2 classes."""
    with torch.device("meta"):
        network = create_segmenter("unet", num_classes=2, in_chans=3)
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_037_698


def test_valid_convolutions_see_the_mirrored_image():
    """By torch's own reflection, where the image is large enough for it."""
    network = warmed(create_segmenter("unet_paper", **SMALL))
    images = torch.randn(1, 1, 100, 116, dtype=torch.float64)
    height, width = network.input_size(100, 116)
    pad = (network.border, width - 116 - network.border, network.border, height - 100 - network.border)
    reflected = nn.functional.pad(images, pad, mode="reflect")
    with torch.no_grad():
        torch.testing.assert_close(segmented(network, images), network(reflected)[..., :100, :116])


@pytest.mark.parametrize("name", ["unet", "unet_paper"])
@pytest.mark.parametrize("size", [(1, 1), (5, 33), (64, 48)])
def test_any_size_has_a_logit_for_each_pixel(name, size):
    network = warmed(create_segmenter(name, **SMALL))
    with torch.no_grad():
        assert segmented(network, torch.randn(2, 1, *size, dtype=torch.float64)).shape == (2, 3, *size)


@pytest.mark.parametrize("name", ["unet", "unet_paper"])
def test_tiles_are_the_whole_image(name):
    """28 pixels of each tile's edge are thrown away, and a network of three resolutions sees fewer to either side."""
    network = warmed(create_segmenter(name, **SMALL | {"widths": [4, 8, 8]}))
    images = torch.randn(1, 1, 190, 171, dtype=torch.float64)
    with torch.no_grad():
        whole, parts, rough = segmented(network, images), tiled(network, images, 128), tiled(network, images, 64, 0)
    assert parts.shape == whole.shape
    inner, scale = (..., slice(28, -28), slice(28, -28)), whole.std()
    assert (parts - whole)[inner].abs().max() < 1e-10 * scale
    assert (rough - whole)[inner].abs().max() > 1e-4 * scale  # without overlap, tiles do not see behind their edges


ENCODERS = {
    "resnet18": (96, {}),
    "mobilenetv2_050": (70, {}),
    "vit_tiny_patch16_224": (64, {"backbone_args": {"img_size": 64}}),
    "lenet5": (50, {"decoder_channels": [8, 4]}),
}


@pytest.mark.parametrize("backbone", ENCODERS)
def test_the_twin_over_timms_encoder_is_equal(backbone):
    size, options = ENCODERS[backbone]
    ours, theirs = (
        create_segmenter(
            "unet_encoder", backbone=backbone, backbone_source=source, num_classes=5, in_chans=3, **options
        )
        for source in ("cnnbench", "timm")
    )
    warmed(ours)
    theirs.double().eval().load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        own, reference = ours(images), theirs(images)
    assert own.shape == (2, 5, size, size)
    assert (own - reference).norm() <= 1e-10 * reference.norm()
    assert reference.std() > 1e-3


def test_a_resnets_way_up_is_that_of_segmentation_models_pytorch():
    """The same tensors in the same order, and the same logits."""
    ours = warmed(create_segmenter("unet_encoder", backbone="resnet18", num_classes=5))
    theirs = smp.Unet("resnet18", encoder_weights=None, classes=5).double().eval()
    own, other = ours.state_dict(), theirs.state_dict()
    assert [value.shape for value in own.values()] == [value.shape for value in other.values()]
    theirs.load_state_dict(dict(zip(other, own.values(), strict=True)))
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-10, atol=1e-12)


def test_a_transformer_of_one_size_takes_smaller_images_and_larger_ones_by_tiles():
    options = {"backbone": "vit_tiny_patch16_224", "num_classes": 2, "backbone_args": {"img_size": 64}}
    network = create_segmenter("unet_encoder", **options).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 40, 64)).shape == (1, 2, 40, 64)
        assert tiled(network, torch.randn(1, 3, 40, 100), 64).shape == (1, 2, 40, 100)
    with pytest.raises(
        UserError, match="images of 40x100 pixels are larger than the backbone takes, 64x64: give img_size"
    ):
        network(torch.randn(1, 3, 40, 100))


@pytest.mark.parametrize(
    ("name", "options", "coarser"),
    [
        ("unet", {"widths": [4, 8, 8, 16]}, [(20, 24), (10, 12)]),
        ("unet_encoder", {"backbone": "resnet18", "in_chans": 3}, [(32, 32), (16, 16)]),
        ("unet_encoder", {"backbone": "resnet18", "in_chans": 3, "out_indices": [0, 1, 2]}, [(20, 24), (10, 12)]),
    ],
)
def test_coarser_maps_have_logits_of_their_own_while_training(name, options, coarser):
    """Of the image as it is continued; in evaluation the network is the same with and without them."""
    options = {**SMALL, "widths": None, **options}
    options = {key: value for key, value in options.items() if value is not None}
    supervised = warmed(create_segmenter(name, **options, deep_supervision=2)).train()
    images = torch.randn(2, options["in_chans"], 37, 45, dtype=torch.float64)
    logits, *others = supervised(images)
    assert logits.shape == (2, 3, 37, 45)
    assert [x.shape for x in others] == [(2, 3, *size) for size in coarser]
    sum(x.square().sum() for x in others).backward()
    deep = supervised.down[-1][0] if name == "unet" else supervised.encoder.conv1
    assert deep.weight.grad.abs().sum() > 0
    assert supervised.head.weight.grad is None
    plain = create_segmenter(name, **options).double().eval()
    weights = {key: value for key, value in supervised.state_dict().items() if not key.startswith("aux_heads.")}
    plain.load_state_dict(weights)
    with torch.no_grad():
        assert torch.equal(supervised.eval()(images), plain(images))


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize(("there", "here"), [(2, 0), (0, 2), (2, 2), (1, 2), (2, 1)])
def test_weights_begin_a_network_of_other_supervision_and_other_classes(tmp_path, caplog, classes, there, here):
    """What both have is taken; what is new, or for other classes, starts anew, and is said to."""
    state = create_segmenter("unet", **SMALL, deep_supervision=there).state_dict()
    torch.save(state, tmp_path / "w.pth")
    options = {**SMALL, "num_classes": classes, "deep_supervision": here, "weights": tmp_path / "w.pth"}
    with caplog.at_level("WARNING"):
        loaded = create_segmenter("unet", **options).state_dict()
    assert loaded.keys() >= {f"aux_heads.{place}.weight" for place in range(here)}
    heads = ["head", *(f"aux_heads.{place}" for place in range(here))]
    new = [head for place, head in enumerate(heads) if place > there]
    others = [head for head in heads if head not in new] if classes == 5 else []
    for key, value in loaded.items():
        if key.rpartition(".")[0] not in (*new, *others):
            assert torch.equal(value, state[key])
    said = [f"no weights for the heads of coarser maps: {ending(new)}"] if new else []
    said += [f"{tmp_path}/w.pth: its classifier is for other classes, so {ending(others)}"] if others else []
    assert caplog.messages == said


def ending(layers):
    return f"{', '.join(layers)} {'start' if len(layers) > 1 else 'starts'} anew"


def test_half_a_head_is_no_head(tmp_path):
    state = create_segmenter("unet", **SMALL, deep_supervision=1).state_dict()
    del state["aux_heads.0.bias"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"does not fit unet; missing: aux_heads\.0\.bias"):
        create_segmenter("unet", **SMALL, deep_supervision=1, weights=tmp_path / "w.pth")


def test_the_way_up_keeps_the_strength_of_what_is_deep():
    """Section 3: initial deviations of sqrt(2 / N), where N counts what enters one neuron, on the way up one pixel."""
    torch.manual_seed(0)
    network = create_segmenter("unet", num_classes=2, in_chans=1, widths=[64, 128])
    assert network.enlarge[0].weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {"deep_supervision": 4}, "deep_supervision is 4: the way up has 3 maps besides the last"),
        ("unet", {"deep_supervision": -1}, "deep_supervision is -1"),
        ("unet_paper", {"deep_supervision": 1}, "deep_supervision is 1: coarser maps are those of the image if padded"),
    ],
)
def test_maps_that_cannot_be_supervised_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        create_segmenter(name, **SMALL, **options)


def test_each_map_of_the_encoder_is_looked_at():
    network = create_segmenter("unet_encoder", backbone="resnet18", num_classes=2)
    maps = []
    network.encoder.register_forward_hook(lambda module, args, output: maps.extend(output))
    logits = network(torch.randn(2, 3, 64, 64))
    for map in maps:
        map.retain_grad()
    logits.square().sum().backward()
    assert len(maps) == 5
    assert all(map.grad.abs().sum() > 0 for map in maps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "unett"}, "unknown segmenter 'unett'; did you mean 'unet'"),
        ({"source": "timm"}, "backbone_source may be 'timm'"),
        ({"backbone": "resnet18"}, "unet has no backbone; unet_encoder stands on one"),
        ({"width": [8, 8]}, "unet has no argument 'width'; did you mean 'widths'"),
        ({"in_chans": 0}, "in_chans to be a whole number of at least 1, not 0"),
        ({"name": "unet_encoder", "backbone": "resnet81"}, "did you mean 'resnet"),
        ({"name": "unet_encoder", "decoder_channels": [8, 8]}, "it must have 5"),
        ({"name": "unet_encoder", "decoder_channels": [8, "wide"]}, "has 'wide': each must be a whole number"),
    ],
)
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(UserError, match=message):
        create_segmenter(**{"name": "unet", "num_classes": 2, **options})


def test_channels_and_tiles_that_do_not_fit_are_named():
    network = create_segmenter("unet", **SMALL)
    with pytest.raises(UserError, match="images have 3 channels, and the segmenter takes 1"):
        network(torch.zeros(1, 3, 32, 32))
    with pytest.raises(UserError, match="tile is 100: it must be a multiple of 16"):
        tiled(network, torch.zeros(1, 1, 200, 200), 100)
    with pytest.raises(UserError, match="between 0 and half a tile, 32"):
        tiled(network, torch.zeros(1, 1, 200, 200), 64, 48)
