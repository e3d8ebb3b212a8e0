"""What only ViT has: weights fitted to another image or patch size, tokens beside maps, two forms of attention."""

import pytest
import timm.layers
import timm.optim
import torch
from families.vision_transformer import TINY
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

import cnnbench.models as models
from cnnbench.errors import UserError

NAME = "vit_tiny_patch16_224"
SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}


def ours_and_theirs(**kwargs):
    return [models.create_model(NAME, source=source, **kwargs).eval() for source in ("cnnbench", "timm")]


def images_of(height, width=None, channels=3):
    return torch.randn(2, channels, height, width or height, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def weights_of_224(tmp_path_factory):
    """A file of weights of 224 pixels in patches of 16."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    network = models.create_model(NAME, source="timm", **SMALL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_file(network.state_dict(), path)
    return path


SIZES = {
    "as it is": {},
    "smaller images": {"img_size": 96},
    "oblong images": {"img_size": (160, 256)},
    "as many patches in another shape": {"img_size": (112, 448)},
    "small patches": {"img_size": 32, "patch_size": 4},
    "large patches, one channel, other classes": {"patch_size": 32, "in_chans": 1, "num_classes": 5},
}


@pytest.mark.parametrize("kwargs", SIZES.values(), ids=SIZES)
def test_weights_of_another_size_are_fitted_as_timm_fits_them(weights_of_224, kwargs):
    overlay = {"file": str(weights_of_224), "hf_hub_id": None, "url": ""}
    pair = ours_and_theirs(**SMALL, **kwargs, pretrained=True, pretrained_cfg_overlay=overlay)
    assert_same_but_for_the_head(*pair)
    images = images_of(*timm.layers.to_2tuple(kwargs.get("img_size", 224)), kwargs.get("in_chans", 3))
    torch.testing.assert_close(*(network.forward_features(images) for network in pair), rtol=0, atol=0)
    if "num_classes" not in kwargs:
        torch.testing.assert_close(*(network(images) for network in pair), rtol=0, atol=0)


@pytest.mark.parametrize("size", sorted(SIZES.keys() - {"as many patches in another shape"}))  # these fit as they are
def test_any_file_of_weights_is_fitted_so(weights_of_224, size):
    overlay = {"file": str(weights_of_224), "hf_hub_id": None, "url": ""}
    ours_model = models.create_model(NAME, **SMALL, **SIZES[size], weights=weights_of_224)
    theirs_model = models.create_model(
        NAME, source="timm", **SMALL, **SIZES[size], pretrained=True, pretrained_cfg_overlay=overlay
    )
    assert_same_but_for_the_head(ours_model, theirs_model)


def assert_same_but_for_the_head(ours_model, theirs_model):
    ours, theirs = ours_model.state_dict(), theirs_model.state_dict()
    assert {key for key in theirs if not torch.equal(ours[key], theirs[key])} <= {"head.weight"}


def test_strict_loading_takes_the_own_size_only(weights_of_224):
    network = models.create_model(NAME, **TINY)
    with pytest.raises(RuntimeError, match="size mismatch for pos_embed"):
        network.load_state_dict(models.create_model(NAME, **{**TINY, "img_size": 64}).state_dict())


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize(
    "kwargs",
    [
        {"output_fmt": "NLC"},
        {"return_prefix_tokens": True},
        {"return_prefix_tokens": True, "output_fmt": "NLC", "norm": True, "indices": [0, -1]},
        {"output_dict": True},
        {"output_dict": True, "return_prefix_tokens": True, "stop_early": True, "indices": [1]},
    ],
    ids=str,
)
def test_forward_intermediates_gives_tokens_too(class_token, kwargs):
    build = {**TINY, "img_size": (32, 48), "class_token": class_token, "global_pool": "avg", "fc_norm": False}
    ours_model, theirs_model = ours_and_theirs(**build)
    ours_model.load_state_dict(theirs_model.state_dict(), strict=True)
    images = images_of(32, 48)
    for only in (False, True):
        answers = [
            network.forward_intermediates(images, intermediates_only=only, **kwargs)
            for network in (ours_model, theirs_model)
        ]
        torch.testing.assert_close(*answers, rtol=0, atol=0)


@pytest.mark.parametrize("norm", [False, True])
def test_pruned_as_timm_prunes(norm):
    """What features need no more goes; the norm stays where the maps are to be normed."""
    pair = ours_and_theirs(**TINY)
    assert [network.prune_intermediate_layers([0, -2], prune_norm=not norm) for network in pair] == [[0, 1]] * 2
    pair[0].load_state_dict(pair[1].state_dict(), strict=True)
    maps = [network.forward_intermediates(images_of(32), norm=norm, intermediates_only=True) for network in pair]
    assert len(maps[0]) == 2
    torch.testing.assert_close(*maps, rtol=0, atol=0)


def test_forward_intermediates_checkpoints():
    network = models.create_model(NAME, **TINY)
    calls = []
    network.blocks[1].norm1.register_forward_hook(lambda *args: calls.append(1))
    for enable in (False, True):
        network.set_grad_checkpointing(enable)
        network.forward_intermediates(images_of(32))[0].sum().backward()
    assert len(calls) == 1 + 2


def test_attention_step_by_step():
    """timm's switch holds for both: then ours is timm's to the bit, and every multiplication can be counted."""
    fused_model, _ = ours_and_theirs(**TINY)
    timm.layers.set_fused_attn(False)
    try:
        pair = ours_and_theirs(**TINY, attn_drop_rate=0.2)
    finally:
        timm.layers.set_fused_attn(True)
    for network in pair:
        network.load_state_dict(fused_model.state_dict(), strict=True)
    images = images_of(32)
    torch.testing.assert_close(pair[0](images), fused_model(images), rtol=1e-5, atol=1e-6)
    outputs = []
    for network in pair:
        torch.manual_seed(0)
        outputs.append(network.train()(images))
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    with FlopCounterMode(display=False) as unfused, torch.device("meta"):
        pair[0].to("meta")(torch.empty(1, 3, 32, 32))
    tokens, dim = 17, 32
    linear = 16 * 8 * 8 * 3 * dim + 3 * tokens * 12 * dim**2 + dim * 1000
    assert unfused.get_total_flops() == 2 * (linear + 3 * 2 * tokens**2 * dim)


def test_optimisers_do_not_decay_what_timm_spares():
    ours_model, theirs_model = ours_and_theirs(**TINY)
    groups = [timm.optim.param_groups_weight_decay(m, 0.1, m.no_weight_decay()) for m in (ours_model, theirs_model)]
    shapes = [[[p.shape for p in group["params"]] for group in of_one] for of_one in groups]
    assert shapes[0] == shapes[1]


MISTAKES = {
    "patch": ({"patch_size": 15}, "patch_size 15x15 does not divide img_size 224x224"),
    "oblong patch": ({"img_size": [32, 48], "patch_size": [8, 32]}, "patch_size 8x32 does not divide img_size 32x48"),
    "no patch": ({"patch_size": 0}, "patch_size 0x0 does not divide img_size 224x224"),
    "heads": ({"num_heads": 5}, "5 heads do not divide a width of 192"),
    "pooling": ({"global_pool": "map"}, "there is no global_pool 'map'; there is 'token', 'avg', 'max', 'avgmax', ''"),
    "class token": ({"class_token": False}, "there is no global_pool 'token' without a class token; there is 'avg', "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_answered_in_a_line(mistake):
    kwargs, message = MISTAKES[mistake]
    with pytest.raises(UserError) as caught:
        models.create_model(NAME, **kwargs)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_of_another_size_are_refused():
    with pytest.raises(AssertionError, match="images have 40x32 pixels, but img_size is 32x32"):
        models.create_model(NAME, **TINY)(images_of(40, 32))
