"""Receptive fields by hand, by published figures, and by the support of a gradient."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from cnnbench import UserError, create_model, receptive_field
from cnnbench.analysis import inspect_layers


def conv(kernel_size, in_chs=2, out_chs=2, **kwargs):
    return nn.Conv2d(in_chs, out_chs, kernel_size, **kwargs)


# ---------------------------------------------------------------------- by hand


def test_six_layers_of_vgg():
    """conv3 conv3 pool2, twice: 1 + 2 + 2 + 1, then 2 (2 + 2) + 2 more."""
    half = [conv(3, padding=1), conv(3, padding=1), nn.MaxPool2d(2)]
    field = receptive_field(nn.Sequential(*half, *[conv(3, padding=1), conv(3, padding=1), nn.MaxPool2d(2)]), 32)
    assert (field.size, field.stride, field.start) == ((16, 16), (4, 4), (2, 2))


def test_first_layer_of_resnet():
    field = receptive_field(conv(7, stride=2, padding=3), 224)
    assert (field.size, field.stride, field.start) == ((7, 7), (2, 2), (0.5, 0.5))


def test_height_and_width_apart():
    field = receptive_field(nn.Sequential(conv((1, 7), padding=(0, 3)), conv((3, 1), stride=(2, 1))), (20, 30))
    assert (field.size, field.stride, field.start) == ((3, 7), (2, 1), (1.5, 0.5))


def test_dilation():
    assert receptive_field(nn.Sequential(conv(3, dilation=2), conv(3, dilation=4)), 32).size == (13, 13)


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", 435), ("resnet50", 427), ("densenet121", 2071), ("inception_v3", 1311), ("mobilenetv2_100", 491)],
)
def test_published_fields(name, size):
    """ResNet-50 has 483 with the stride on the 1x1 convolution, as below, and 427 with it on the 3x3 (v1.5)."""
    with torch.device("meta"):
        model = timm.create_model(name)
    assert receptive_field(model).size == (size, size)


def test_stride_on_the_1x1():
    with torch.device("meta"):
        model = timm.create_model("resnet50")
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    assert receptive_field(model).size == (483, 483)


def test_pooling_and_attention_see_everything():
    with torch.device("meta"):
        resnet, vit = timm.create_model("resnet18"), timm.create_model("vit_tiny_patch16_224")
    pooled = receptive_field(resnet, layer="global_pool.pool")
    assert (pooled.size, pooled.stride, pooled.start) == (("all", "all"), (None, None), (None, None))
    assert receptive_field(vit, layer="patch_embed.proj").size == (16, 16)
    assert receptive_field(vit, layer="blocks.0.attn.qkv").size == (16, 16)
    assert receptive_field(vit, layer="blocks.0.attn.proj").size == ("all", "all")


def test_mixing_of_tokens_sees_everything_and_of_channels_nothing_more():
    with torch.device("meta"):
        model = timm.create_model("mixer_b16_224")
    assert receptive_field(model, layer="blocks.0.norm1").size == (16, 16)
    assert receptive_field(model, layer="blocks.0.mlp_tokens.fc1").size == ("all", "all")


def test_gates_are_passed_by_and_said_so():
    with torch.device("meta"):
        gated, plain = timm.create_model("seresnet50"), timm.create_model("resnet50")
    assert receptive_field(gated) == receptive_field(plain)
    assert inspect_layers(gated).gated
    assert not inspect_layers(plain).gated


def test_a_global_addition_is_no_gate():
    class Context(nn.Module):
        def forward(self, x):
            return x + x.mean((2, 3), keepdim=True)

    assert receptive_field(Context(), (3, 8, 8)).size == ("all", "all")


def test_windows_are_not_guessed():
    with torch.device("meta"):
        model = timm.create_model("swin_tiny_patch4_window7_224")
    assert receptive_field(model, layer="layers.0.blocks.0.attn.proj").size == (None, None)
    assert inspect_layers(model).not_followed == ("bmm",)


def test_windows_cut_and_put_together_again():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv(3, stride=2, padding=1)

        def forward(self, x):
            batch, channels, height, width = x.shape
            x = x.reshape(batch, channels, height // 4, 4, width // 4, 4).permute(0, 2, 4, 3, 5, 1)
            x = F.gelu(x.reshape(-1, 16, channels)).view(batch, height // 4, width // 4, 4, 4, channels)
            return self.conv(x.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, height, width))

    field = receptive_field(nn.Sequential(conv(3, padding=1), Windows()), 16)
    assert (field.size, field.stride, field.start) == ((5, 5), (2, 2), (0.5, 0.5))


def test_bad_layer_and_size():
    with pytest.raises(UserError, match=r"no layer 'layer4.2.act'; did you mean 'layer4.2.act3'"):
        receptive_field(create_model("resnet50"), layer="layer4.2.act")
    with pytest.raises(UserError, match="does not tell its usual image size"):
        receptive_field(conv(3))
    with pytest.raises(UserError, match="it must be a side"):
        receptive_field(conv(3), 0)


def test_what_needs_data_is_said():
    class Depends(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(UserError, match="Depends cannot run on an image of 3x8x8 without data"):
        receptive_field(Depends(), (3, 8, 8))


# ---------------------------------------------------------------------- by the gradient


class Branches(nn.Module):
    """Inception-like: kernels side by side, concatenated; and a shortcut around all of them."""

    def __init__(self):
        super().__init__()
        self.one, self.five = conv(1, out_chs=1), nn.Sequential(conv(1), conv(5, out_chs=1, padding=2))
        self.seven = nn.Sequential(conv((1, 7), padding=(0, 3)), conv((7, 1), padding=(3, 0)))

    def forward(self, x):
        return torch.cat([self.one(x), self.five(x)], 1) + self.seven(F.avg_pool2d(x, 3, 1, 1)) + x


class Dense(nn.Module):
    """DenseNet-like: every layer sees all before it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(conv(3, in_chs=2 + i, out_chs=1, padding=1) for i in range(3))
        self.transition = conv(1, in_chs=5)

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return F.avg_pool2d(self.transition(x), 2)


class Uneven(nn.Module):
    """Branches whose fields have different centres: their union counts."""

    def __init__(self):
        super().__init__()
        self.one, self.two = conv(1, stride=2), conv(2, stride=2)

    def forward(self, x):
        return self.one(x) + self.two(x)


class Focus(nn.Module):
    """Space to depth by slices."""

    def forward(self, x):
        return torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)


class Patches(nn.Module):
    """Space to depth by views, then a linear layer over channels last."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2 * 9, 2)

    def forward(self, x):
        batch, channels, height, width = x.shape
        x = x.view(batch, channels, height // 3, 3, width // 3, 3).permute(0, 2, 4, 1, 3, 5).flatten(3)
        return self.linear(x).permute(0, 3, 1, 2)


NETWORKS = {
    "convolutions": lambda: nn.Sequential(conv(3), conv(4, stride=2, padding=1), conv(3, padding=1)),
    "dilation": lambda: nn.Sequential(conv(3, dilation=2, padding=2), conv(3, stride=2), conv(2, dilation=3)),
    "depthwise": lambda: nn.Sequential(conv(5, groups=2, padding=2, stride=2), conv(1), conv(3, groups=2)),
    "pools": lambda: nn.Sequential(conv(3), nn.AvgPool2d(3, 2, 1), conv(3), nn.LPPool2d(1, 2)),
    "ceil": lambda: nn.Sequential(nn.AvgPool2d(3, 2, ceil_mode=True), conv(3), nn.AvgPool2d(2, 2, ceil_mode=True)),
    "padding": lambda: nn.Sequential(nn.ZeroPad2d((2, 1, 0, 3)), conv(3, stride=2), nn.ReflectionPad2d(1), conv(3)),
    "cropped": lambda: nn.Sequential(conv(3), nn.ZeroPad2d(-1), conv(3, stride=2)),
    "branches": lambda: nn.Sequential(conv(3, stride=2), Branches(), Branches()),
    "dense": lambda: nn.Sequential(conv(3, stride=2, padding=1), Dense(), Dense()),
    "uneven": lambda: nn.Sequential(Uneven(), conv(3, padding=1), Uneven()),
    "focus": lambda: nn.Sequential(Focus(), conv(3, in_chs=8), conv(3, stride=2)),
    "patches": lambda: nn.Sequential(conv(3, padding=1), Patches(), conv(3)),
}

# The outputs of these see unequal parts of the image.
RESIZED = {
    "adaptive": lambda: nn.Sequential(conv(3, padding=1), nn.AdaptiveAvgPool2d(40), conv(3)),
    "upsampled": lambda: nn.Sequential(conv(3, stride=2), nn.Upsample(scale_factor=2), nn.AvgPool2d(2), conv(3)),
    "transposed": lambda: nn.Sequential(conv(3, stride=2), nn.ConvTranspose2d(2, 2, 2, stride=2), nn.AvgPool2d(2)),
}


def support(network, size, position):
    """The first and the last row and column of the image that one output depends on."""
    image = torch.ones(1, 2, size, size, dtype=torch.float64, requires_grad=True)
    output = network(image)
    output[0, :, position[0], position[1]].sum().backward()
    seen = image.grad[0].sum(0) != 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    return (rows[0].item(), rows[-1].item()), (columns[0].item(), columns[-1].item())


def seen_and_expected(network, size):
    """Yield what outputs in the middle see along a side, first and last, and what their field says."""
    network = network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(0.5, 1.5)  # positive, so that nothing cancels
    field = receptive_field(network, size, in_chans=2)
    middle = network(torch.ones(1, 2, size, size, dtype=torch.float64)).shape[-1] // 2
    for position in ((middle, middle - 1), (middle - 1, middle)):
        for side, seen in enumerate(support(network, size, position)):
            centre = field.start[side] + position[side] * field.stride[side]
            yield seen, (centre - field.size[side] / 2, centre + field.size[side] / 2 - 1), field.stride[side]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [96, 108])
def test_equals_the_support_of_the_gradient(name, size):
    for seen, expected, _ in seen_and_expected(NETWORKS[name](), size):
        assert seen == expected


@pytest.mark.parametrize("name", RESIZED)
@pytest.mark.parametrize("size", [96, 108])
def test_holds_the_support_of_the_gradient_after_resizing(name, size):
    for (first, last), (low, high), stride in seen_and_expected(RESIZED[name](), size):
        assert low - stride <= first
        assert last <= high + stride
        assert high - low < last - first + 3 * stride
