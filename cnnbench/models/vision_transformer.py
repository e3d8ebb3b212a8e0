"""ViT: Alexey Dosovitskiy, Lucas Beyer, Alexander Kolesnikov and others, 2020, https://arxiv.org/abs/2010.11929.

The one idea: an image is a sentence whose words are its patches of 16x16 pixels. Each patch becomes a token by
one linear map, and a plain Transformer does the rest: nothing but the patches and the position embedding, which
is learned, knows that the image has two dimensions.

Three things follow the reference, not the paper: the head is a single linear layer also for training from scratch
(the paper's has a hidden layer then), it starts at small random values (the paper: at zero), and there is no
dropout unless asked for (the paper: 0.1). Tiny and small are not in the paper; their sizes are those of DeiT,
https://arxiv.org/abs/2012.12877.

Attention is one fused operation. `timm.layers.set_fused_attn(False)`, or TIMM_FUSED_ATTN=0 in the environment,
makes the networks that are built after it, ours as well as timm's, compute it step by step: so torch's FLOP
counter sees it, which on a CPU counts 0 for the fused one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import to_2tuple, trunc_normal_, use_fused_attn
from torch import Tensor, nn

from cnnbench.layers import Attention, DropPath, Mlp, Stage, TokenNetwork, linear
from cnnbench.models.registry import Paper, register

EPS = 1e-6


class PatchEmbed(nn.Module):
    """Cut images into patches and map each linearly: a convolution as wide as its stride (equation 1)."""

    def __init__(self, img_size: tuple[int, int], patch_size: tuple[int, int], in_chans: int, dim: int) -> None:
        super().__init__()
        (height, width), (rows, columns) = img_size, patch_size
        if min(height, width, rows, columns) < 1 or height % rows or width % columns:
            raise ValueError(f"patch_size {rows}x{columns} does not divide img_size {height}x{width}")
        self.img_size = img_size
        self.grid_size = (height // rows, width // columns)
        self.proj = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, in_chans, H, W) to tokens (B, N, C), row by row."""
        height, width = self.img_size
        fits = (x.shape[2] == height) & (x.shape[3] == width)
        torch._assert(fits, f"images have {x.shape[2]}x{x.shape[3]} pixels, but img_size is {height}x{width}")
        return self.proj(x).flatten(2).transpose(1, 2)


class Block(nn.Module):
    """Attention, which mixes tokens, then an MLP, which mixes channels; a norm ahead of each (equations 2, 3)."""

    def __init__(self, dim: int, hidden_dim: int, drop_path: float, proj_drop: float, **attention: Any) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = Attention(dim, proj_drop=proj_drop, **attention)
        self.drop_path1 = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, hidden_dim, proj_drop)
        self.drop_path2 = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C)."""
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class VisionTransformer(TokenNetwork):
    """Patches and a class token, to which their positions are added, then blocks and a norm.

    Args:
        img_size: Side of the images, or height and width. Weights of another size are fitted when they are loaded
            by `create_model`, their position embedding resampled; `load_state_dict` takes this size only.
        patch_size: Side of the patches, or height and width; it divides `img_size`.
        embed_dim: Width of the tokens.
        depth: Blocks.
        num_heads: Heads of the attention; they divide `embed_dim`.
        mlp_ratio: Width of the MLPs' hidden layers over `embed_dim`.
        qkv_bias: Whether queries, keys and values have a bias.
        class_token: Whether a learned token runs along with the patches.
        num_classes: Outputs; 0 leaves the classifier out.
        in_chans: Channels of the images.
        global_pool: "token" (the class token), "avg", "max" or "avgmax" (of the patches), or "" (none).
        fc_norm: Whether the last norm comes after the pooling; None: after "avg", "max" and "avgmax" only.
        drop_rate: Dropout in front of the classifier.
        pos_drop_rate: Dropout once positions are added.
        proj_drop_rate: Dropout after each linear layer but that of queries, keys and values.
        attn_drop_rate: Dropout of attention weights.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 at the first.
    """

    def __init__(
        self,
        img_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        class_token: bool = True,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "token",
        fc_norm: bool | None = None,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = embed_dim
        self.num_prefix_tokens = int(class_token)
        self.global_pool = self._checked_pool(global_pool)
        img_size, patch_size = to_2tuple(img_size), to_2tuple(patch_size)
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        rows, columns = self.patch_embed.grid_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim)) if class_token else None
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns + self.num_prefix_tokens, embed_dim))
        self.pos_drop = nn.Dropout(pos_drop_rate)
        hidden_dim = int(embed_dim * mlp_ratio)
        attention = {
            "num_heads": num_heads,
            "qkv_bias": qkv_bias,
            "attn_drop": attn_drop_rate,
            "fused_attn": use_fused_attn(),
        }
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        self.blocks = Stage(*(Block(embed_dim, hidden_dim, rate, proj_drop_rate, **attention) for rate in rates))
        self.feature_info = [
            {"num_chs": embed_dim, "reduction": max(patch_size), "module": f"blocks.{i}"} for i in range(depth)
        ]
        norm_last = global_pool not in ("token", "") if fc_norm is None else fc_norm
        self.norm = nn.Identity() if norm_last else nn.LayerNorm(embed_dim, eps=EPS)
        self.fc_norm = nn.LayerNorm(embed_dim, eps=EPS) if norm_last else nn.Identity()
        self.head_drop = nn.Dropout(drop_rate)
        self.head = linear(embed_dim, num_classes)
        self._init_weights()

    def _init_weights(self) -> None:
        trunc_normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def embed(self, x: Tensor) -> Tensor:
        """Return the tokens (B, N, C) of images (B, in_chans, H, W), the class token first (equation 1)."""
        x = self.patch_embed(x)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.pos_drop(x + self.pos_embed)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last tokens (B, N, C) of images (B, in_chans, H, W)."""
        return self.norm(self.blocks(self.embed(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of tokens (equation 4), or with `pre_logits` what the classifier would see."""
        x = self.head_drop(self.fc_norm(self.pool(x)))  # (B, C)
        return x if pre_logits else self.head(x)


PAPER = Paper(
    title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
    authors="Alexey Dosovitskiy, Lucas Beyer, Alexander Kolesnikov, Dirk Weissenborn, Xiaohua Zhai, "
    "Thomas Unterthiner, Mostafa Dehghani, Matthias Minderer, Georg Heigold, Sylvain Gelly, Jakob Uszkoreit, "
    "Neil Houlsby",
    year=2020,
    url="https://arxiv.org/abs/2010.11929",
)

register(
    VisionTransformer,
    PAPER,
    {
        "vit_tiny_patch16_224": {"patch_size": 16, "embed_dim": 192, "depth": 12, "num_heads": 3},
        "vit_small_patch16_224": {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6},
        "vit_base_patch16_224": {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12},
        "vit_large_patch16_224": {"patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16},
        "vit_base_patch32_224": {"patch_size": 32, "embed_dim": 768, "depth": 12, "num_heads": 12},
    },
    feature_cfg={"out_indices": 3, "feature_cls": "getter"},
    top1={
        "vit_tiny_patch16_224": 75.452,
        "vit_small_patch16_224": 81.402,
        "vit_base_patch16_224": 85.108,
        "vit_large_patch16_224": 85.856,
        "vit_base_patch32_224": 80.732,
    },
)
