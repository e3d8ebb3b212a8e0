"""What the tests know of ViT."""

from functools import partial

import torch
from plant import after, change, lost_bias, replace
from torch import Tensor, nn

from cnnbench.models.vision_transformer import Block, VisionTransformer

PARAMETERS = {
    "vit_tiny_patch16_224": 5_717_416,
    "vit_small_patch16_224": 22_050_664,
    "vit_base_patch16_224": 86_567_656,
    "vit_large_patch16_224": 304_326_632,
    "vit_base_patch32_224": 88_224_232,
}

SLOW = ("vit_small_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224", "vit_base_patch32_224")

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
SMALL = {"vit_tiny_patch16_224": TINY}

AS_RESET = {"vit_tiny_patch16_224": {"fc_norm": False}}  # resetting leaves the norm ahead of the pooling

VARIATIONS = [
    ("vit_tiny_patch16_224", {**TINY, **kwargs})
    for kwargs in (
        {"img_size": (16, 48), "patch_size": (8, 4), "in_chans": 1},
        {"global_pool": "avg", "mlp_ratio": 2.5},
        {"global_pool": "max", "class_token": False, "qkv_bias": False},
        {"global_pool": "avgmax", "fc_norm": False},
        {"global_pool": "", "fc_norm": True},
        {"global_pool": "", "num_classes": 0},
        {"pos_drop_rate": 0.1, "proj_drop_rate": 0.2, "attn_drop_rate": 0.3, "drop_path_rate": 0.4, "drop_rate": 0.5},
    )
]


class PostNorm(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attn(x))
        return self.norm2(x + self.mlp(x))


class AttentionBesideMlp(Block):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(self.norm1(x)) + self.mlp(self.norm2(x))


class NoPositions(VisionTransformer):
    def embed(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)


class ClassTokenAfterPositions(VisionTransformer):
    def embed(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x) + self.pos_embed[:, 1:]
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)


class ClassTokenLast(VisionTransformer):
    def embed(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        return torch.cat([x, self.cls_token.expand(len(x), -1, -1)], dim=1) + self.pos_embed


class PatchesByColumn(VisionTransformer):
    def embed(self, x: Tensor) -> Tensor:
        return super().embed(x.transpose(2, 3))


class AverageWithClassToken(VisionTransformer):
    def pool(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)


def queries_times(factor: float):
    return lambda module, x, y: torch.cat([y[..., : y.shape[-1] // 3] * factor, y[..., y.shape[-1] // 3 :]], dim=-1)


MISTAKES = {
    "vit_tiny_patch16_224": {
        "LayerNorm eps 1e-5 ahead of attention": change("blocks.0.norm1", eps=1e-5),
        "LayerNorm eps 1e-5 ahead of an MLP": change("blocks.1.norm2", eps=1e-5),
        "LayerNorm eps 1e-5 at the end": change("norm", eps=1e-5),
        "tanh GELU": replace("blocks.2.mlp.act", partial(nn.GELU, approximate="tanh")),
        "ReLU for GELU": replace("blocks.0.mlp.act", nn.ReLU),
        "a lost bias of queries, keys and values": lost_bias("blocks.1.attn.qkv"),
        "a lost bias of the patches": after("patch_embed", lambda module, x, y: y - module.proj.bias),
        "attention scaled by the width, not a head's": after("blocks.0.attn.qkv", queries_times(2**-0.5)),
        "attention not scaled": after("blocks.2.attn.qkv", queries_times(16**0.5)),
        "one head": change("blocks.1.attn", num_heads=1),
        "post-norm": change("blocks.1", __class__=PostNorm),
        "attention and MLP side by side": change("blocks.2", __class__=AttentionBesideMlp),
        "no norm at the end": replace("norm", nn.Identity),
        "average for the class token": change("", global_pool="avg"),
        "average with the class token": change("", __class__=AverageWithClassToken),
        "no position embedding": change("", __class__=NoPositions),
        "class token without a position": change("", __class__=ClassTokenAfterPositions),
        "class token last": change("", __class__=ClassTokenLast),
        "patches by column": change("", __class__=PatchesByColumn),
        "dropout left on": change("head_drop", p=0.1),
        "attention's dropout left on": change("blocks.0.attn.attn_drop", p=0.1),
        "drop path left on": change("blocks.2.drop_path2", drop_prob=0.5),
    },
}
