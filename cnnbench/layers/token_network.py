"""The part of timm's model contract that is the same for every network of tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cnnbench.layers.head import linear
from cnnbench.layers.network import Network, feature_indices

POOL_TYPES = ("token", "avg", "max", "avgmax", "")


class TokenNetwork(Network):
    """A classifier whose features are tokens (B, N, C): perhaps a class token, then those of the patches, row by row.

    Every block gives a feature map. Beside what `Network` asks for, a subclass sets `num_prefix_tokens` (tokens
    ahead of the patches'), `blocks` (a `Stage`), `norm` (behind them), `global_pool`, `fc_norm` (behind the pooling)
    and `head`, gives its `patch_embed` a `grid_size` (rows and columns of patches), and writes `embed`.
    """

    num_prefix_tokens: int
    global_pool: str

    def embed(self, x: Tensor) -> Tensor:
        """Return the first block's tokens (B, N, C) of images (B, in_chans, H, W)."""
        raise NotImplementedError

    def depth_chain(self) -> list[nn.Module]:
        """Return the modules in front of the head, in turn, by which `group_matcher` tells depths."""
        return [self.patch_embed, self.blocks, self.norm]

    def pool(self, x: Tensor) -> Tensor:
        """Pool tokens (B, N, C) to (B, C); "token" takes the first, all others leave the prefix tokens out."""
        if self.global_pool == "":
            return x
        if self.global_pool == "token":
            return x[:, 0]
        x = x[:, self.num_prefix_tokens :]
        if self.global_pool == "avg":
            return x.mean(dim=1)
        if self.global_pool == "max":
            return x.amax(dim=1)
        return 0.5 * (x.amax(dim=1) + x.mean(dim=1))

    @torch.jit.ignore
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        output_dict: bool = False,
    ) -> list[Any] | tuple[Tensor, list[Any]] | dict[str, Any]:
        """Return the features together with the feature maps on the way to them.

        Args:
            x: Images (B, in_chans, H, W).
            indices: After which blocks: all (None), the last n (int), or these (negative: from the end).
            return_prefix_tokens: Return pairs of a map and the prefix tokens (B, num_prefix_tokens, C).
            norm: Apply the network's last norm to the maps too.
            stop_early: Compute no block beyond the last that was asked for.
            output_fmt: "NCHW" for maps, channels_last where the images are, or "NLC" for patches in a row.
            intermediates_only: Return the maps alone.
            output_dict: Return a dict: `image_features`, `image_intermediates`, `image_intermediates_prefix`.

        Raises:
            ValueError: If the format is another.
            IndexError: If there is no such block.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"output_fmt must be 'NCHW' or 'NLC', not {output_fmt!r}")
        wanted = feature_indices(len(self.blocks), indices)
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        x = self.embed(x)
        outputs = []
        for i, block in enumerate(self.blocks):
            if stop_early and i > max(wanted):
                break
            x = checkpoint(block, x, use_reentrant=False) if self.blocks.grad_checkpointing else block(x)
            if i in wanted:
                outputs.append(self.norm(x) if norm else x)
        prefixes = [output[:, : self.num_prefix_tokens] for output in outputs]
        maps = [output[:, self.num_prefix_tokens :] for output in outputs]
        if output_fmt == "NCHW":
            maps = [self._as_map(patches, channels_last) for patches in maps]
        with_prefix = return_prefix_tokens and self.num_prefix_tokens > 0
        if output_dict:
            answer = {"image_intermediates": maps}
            answer |= {"image_intermediates_prefix": prefixes} if with_prefix else {}
            return answer if intermediates_only else {**answer, "image_features": self.norm(x)}
        intermediates = list(zip(maps, prefixes, strict=True)) if with_prefix else maps
        return intermediates if intermediates_only else (self.norm(x), intermediates)

    def _as_map(self, patches: Tensor, channels_last: bool) -> Tensor:
        x = patches.unflatten(1, self.patch_embed.grid_size).permute(0, 3, 1, 2)  # (B, C, rows, columns)
        return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Return the parameters that timm's optimisers must not decay."""
        return {"pos_embed", "cls_token"}

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last linear layer (0: by nothing), and the pooling where given; the norm keeps its place."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = self._checked_pool(global_pool)
        self.head = linear(self.num_features, num_classes).to(next(self.blocks.parameters()))

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the maps `indices` do not need, for timm's `features_only`; return them counted from 0."""
        wanted = feature_indices(len(self.blocks), indices)
        self.blocks = self.blocks[: max(wanted) + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.fc_norm = nn.Identity()
            self.reset_classifier(0, "")
        return wanted

    def _checked_pool(self, global_pool: str) -> str:
        allowed = POOL_TYPES if self.num_prefix_tokens else POOL_TYPES[1:]
        if global_pool not in allowed:
            tokens = "" if self.num_prefix_tokens else " without a class token"
            raise ValueError(
                f"there is no global_pool {global_pool!r}{tokens}; there is {', '.join(map(repr, allowed))}"
            )
        return global_pool
