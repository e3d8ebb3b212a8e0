"""The part of timm's model contract that is the same for every network."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.layers.branches import Branches
from cnnbench.layers.depths import parameter_depths
from cnnbench.layers.stage import Stage


class Network(nn.Module):
    """A classifier: features, then a head.

    A subclass sets `num_classes`, `num_features` (channels of the features), `head_hidden_size` (width in
    front of the last linear layer) and `feature_info` (a dict with `num_chs`, `reduction`, `module` per
    feature map), and writes the methods that raise here.
    """

    num_classes: int
    num_features: int
    head_hidden_size: int
    feature_info: list[dict[str, Any]]

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules that `forward_features` runs in turn, those of `feature_info` among them."""
        raise NotImplementedError

    def depth_chain(self) -> list[nn.Module]:
        """Return the modules in front of the head, in turn, by which `group_matcher` tells depths."""
        return self.feature_chain()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map of images (B, in_chans, H, W)."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of a feature map, or with `pre_logits` what the last linear layer would see."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, in_chans, H, W)."""
        return self.forward_head(self.forward_features(x))

    @torch.jit.ignore
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the features together with the feature maps on the way to them.

        Args:
            x: Images (B, in_chans, H, W).
            indices: Which of `feature_info` to return: all (None), the last n (int), or these (negative: from
                the end).
            norm: Return the last map as `forward_features` does, behind the norm that follows it in some
                networks.
            stop_early: Compute nothing beyond the last map that was asked for.
            output_fmt: "NCHW".
            intermediates_only: Return the maps alone.

        Raises:
            ValueError: If the format is another.
            IndexError: If there is no such feature map.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', not {output_fmt!r}")
        wanted = feature_indices(len(self.feature_info), indices)
        index_of = {self.get_submodule(info["module"]): i for i, info in enumerate(self.feature_info)}
        intermediates = []
        for module in self.feature_chain():
            x = module(x)
            index = index_of.get(module)
            if index in wanted:
                intermediates.append(x)
            if stop_early and index == max(wanted) < len(self.feature_info) - 1:
                break
        if norm and len(self.feature_info) - 1 in wanted:
            intermediates[-1] = x
        return intermediates if intermediates_only else (x, intermediates)

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: keep only the blocks' inputs and compute the rest again for gradients."""
        for module in self.modules():
            if isinstance(module, Stage | Branches):
                module.grad_checkpointing = enable

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> Callable[[str], float]:
        """Return what tells a parameter's depth by its name, for timm's layer-wise learning-rate decay.

        Args:
            coarse: Count stages instead of blocks.
        """
        return parameter_depths(self, self.depth_chain(), coarse).__getitem__

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        raise NotImplementedError

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last linear layer (0: by nothing), and the pooling where `global_pool` is given."""
        raise NotImplementedError


def feature_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Return which of `count` feature maps are meant: all (None), the last n (int), or these (negative: from the end).

    Raises:
        IndexError: If there is no such feature map.
    """
    if indices is None:
        indices = count
    if isinstance(indices, int):
        indices = range(-indices, 0)
    for index in indices:
        if not -count <= index < count:
            raise IndexError(f"there is no feature map {index}; there are 0 to {count - 1}")
    return [index % count for index in indices]
