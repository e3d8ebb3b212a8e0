"""ConvNeXt: Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, 2022, https://arxiv.org/abs/2201.03545.

The one idea: give a ResNet, step by step, what made vision transformers strong, while it stays a
convolutional network: a patchify stem, large depthwise convolutions where a transformer attends, an inverted
bottleneck for its MLP, LayerNorm for BatchNorm, GELU for ReLU, fewer of both, and downsampling layers of
their own.
"""

from collections.abc import Sequence
from functools import partial

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from cnnbench.layers import DropPath, HeadNetwork, LayerNorm2d, Mlp, NormMlpHead, Stage
from cnnbench.models.registry import Paper, register

EPS = 1e-6


class Block(nn.Module):
    """A depthwise convolution that mixes positions, then an MLP that mixes channels (figure 4, right).

    Args:
        dim: Channels.
        kernel_size: Side of the depthwise convolution.
        drop_path: Stochastic depth.
        ls_init_value: Start of the layer scale, one factor a channel; None leaves it out.
    """

    def __init__(self, dim: int, kernel_size: int, drop_path: float, ls_init_value: float | None) -> None:
        super().__init__()
        self.gamma = None if ls_init_value is None else nn.Parameter(torch.full((dim,), ls_init_value))
        self.conv_dw = nn.Conv2d(dim, dim, kernel_size, padding=(kernel_size - 1) // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return F(x) + x."""
        shortcut = x
        x = self.conv_dw(x)
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        x = self.mlp(self.norm(x))
        x = x.permute(0, 3, 1, 2)  # (B, C, H, W)
        if self.gamma is not None:
            x = x * self.gamma.reshape(1, -1, 1, 1)
        return self.drop_path(x) + shortcut


class ConvNeXtStage(nn.Module):
    """Downsampling by a norm and a 2x2 convolution, where asked for, then blocks."""

    def __init__(self, in_dim: int, dim: int, downsample: bool, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity()
        if downsample:
            self.downsample = nn.Sequential(LayerNorm2d(in_dim, EPS), nn.Conv2d(in_dim, dim, 2, stride=2))
        self.blocks = Stage(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_dim, H, W) to (B, dim, H/2, W/2), or without downsampling to (B, dim, H, W)."""
        return self.blocks(self.downsample(x))


class ConvNeXt(HeadNetwork):
    """A patchify stem and four stages; each further stage halves the map.

    Args:
        depths: Blocks in each stage.
        dims: Channels of each stage.
        kernel_sizes: Side of the depthwise convolutions, one for all or one a stage.
        patch_size: Side and stride of the stem's convolution. As in the reference, 2 makes the first stage
            downsample too (stride 32 in all, like 4), while 1 does not (stride 8 in all): take 1 for
            small images.
        ls_init_value: Start of the layer scale; None leaves it out.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "avg", "max", "avgmax" or "" (none).
        drop_rate: Dropout in front of the classifier.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 at the first.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 9, 3),
        dims: Sequence[int] = (96, 192, 384, 768),
        kernel_sizes: int | Sequence[int] = 7,
        patch_size: int = 4,
        ls_init_value: float | None = 1e-6,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.feature_info = []
        if isinstance(kernel_sizes, int):
            kernel_sizes = (kernel_sizes,) * len(dims)
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, dims[0], patch_size, stride=patch_size), LayerNorm2d(dims[0], EPS)
        )

        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
        stages, in_dim, reduction = [], dims[0], patch_size
        for i, (depth, dim, kernel_size) in enumerate(zip(depths, dims, kernel_sizes, strict=True)):
            downsample = i > 0 or patch_size == 2
            reduction *= 2 if downsample else 1
            blocks = [Block(dim, kernel_size, next(rates), ls_init_value) for _ in range(depth)]
            stages.append(ConvNeXtStage(in_dim, dim, downsample, blocks))
            self.feature_info.append({"num_chs": dim, "reduction": reduction, "module": f"stages.{i}"})
            in_dim = dim
        self.stages = nn.Sequential(*stages)

        self.num_features = in_dim
        norm_layer = partial(LayerNorm2d, eps=EPS)
        self.add_head(NormMlpHead(in_dim, num_classes, global_pool, drop_rate, norm_layer), num_classes)
        self._init_weights()

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map of images (B, in_chans, H, W)."""
        x = self.stem(x)  # (B, C, H/4, W/4)
        return self.stages(x)  # (B, 8C, H/32, W/32)

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules of `forward_features` in order."""
        return [self.stem, *self.stages]


PAPER = Paper(
    title="A ConvNet for the 2020s",
    authors="Zhuang Liu, Hanzi Mao, Chao-Yuan Wu, Christoph Feichtenhofer, Trevor Darrell, Saining Xie",
    year=2022,
    url="https://arxiv.org/abs/2201.03545",
)

register(
    ConvNeXt,
    PAPER,
    {
        "convnext_tiny": {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)},
        "convnext_small": {"depths": (3, 3, 27, 3), "dims": (96, 192, 384, 768)},
        "convnext_base": {"depths": (3, 3, 27, 3), "dims": (128, 256, 512, 1024)},
        "convnext_large": {"depths": (3, 3, 27, 3), "dims": (192, 384, 768, 1536)},
    },
    feature_cfg={"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
    top1={"convnext_tiny": 84.448, "convnext_small": 85.324, "convnext_base": 86.302, "convnext_large": 87.012},
)
