"""Attention: Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin, 2017, https://arxiv.org/abs/1706.03762."""

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention: a token takes up the values of those whose keys are like its query (section 3.2).

    Args:
        dim: Width of the tokens.
        num_heads: Heads; they divide `dim`.
        qkv_bias: Whether queries, keys and values have a bias.
        attn_drop: Dropout of the attention weights.
        proj_drop: Dropout of what comes out.
        fused_attn: Compute it as one operation of torch, not step by step; it may be set later too.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        fused_attn: bool = True,
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {dim}")
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.fused_attn = fused_attn
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C)."""
        batch, length, dim = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, C/heads)
        if self.fused_attn:
            rate = self.attn_drop.p if self.training else 0.0
            x = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        else:
            weights = (query * self.scale) @ key.transpose(-2, -1)  # (B, heads, N, N)
            x = self.attn_drop(weights.softmax(dim=-1)) @ value
        x = x.transpose(1, 2).reshape(batch, length, dim)
        return self.proj_drop(self.proj(x))
