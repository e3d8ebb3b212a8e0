"""Heads that several papers share."""

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from cnnbench.layers.pool import GlobalPool


class PooledHead(nn.Module):
    """Pool, dropout, linear.

    Args:
        in_features: Channels of the feature map.
        num_classes: Outputs; 0 leaves the linear layer out.
        pool_type: One of `GlobalPool`'s.
        drop_rate: Dropout in front of the linear layer.
        conv: Make that a 1x1 convolution, which without pooling classifies every position.
    """

    def __init__(
        self, in_features: int, num_classes: int, pool_type: str = "avg", drop_rate: float = 0.0, conv: bool = False
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.conv = conv
        self.global_pool = GlobalPool(pool_type, flatten=not conv)
        self.drop = nn.Dropout(drop_rate)
        self.reset(num_classes)

    def reset(self, num_classes: int, pool_type: str | None = None) -> None:
        """Replace the linear layer, and the pooling where `pool_type` is given."""
        if pool_type is not None:
            self.global_pool = GlobalPool(pool_type, flatten=not self.conv)
        self.num_features = self.in_features * self.global_pool.feat_mult()
        self.fc = linear(self.num_features, num_classes, self.conv)
        self.flatten = nn.Flatten(1) if self.conv and self.global_pool.pool_type else nn.Identity()

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of a feature map (B, C, H, W), or with `pre_logits` what the linear layer would see."""
        x = self.drop(self.global_pool(x))  # (B, num_features), as a map (B, num_features, 1, 1) for a convolution
        return self.flatten(x if pre_logits else self.fc(x))


class NormMlpHead(nn.Module):
    """Pool, norm, an optional hidden layer, dropout, linear.

    Without pooling every position is classified: the linear layers become 1x1 convolutions.

    Args:
        in_features: Channels of the feature map.
        num_classes: Outputs; 0 leaves the last linear layer out.
        pool_type: One of `GlobalPool`'s that keep the number of channels.
        drop_rate: Dropout in front of the last linear layer.
        norm_layer: Called with `in_features`.
        hidden_size: Width of the hidden layer; None leaves it out.
        act_layer: The hidden layer's activation.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        pool_type: str = "avg",
        drop_rate: float = 0.0,
        norm_layer: Callable[[int], nn.Module] = nn.Identity,
        hidden_size: int | None = None,
        act_layer: Callable[[], nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.num_features = hidden_size or in_features
        self.global_pool = _pool(pool_type)
        self.norm = norm_layer(in_features)
        self.flatten = nn.Flatten(1) if pool_type else nn.Identity()
        self.pre_logits = nn.Identity()
        if hidden_size:
            hidden = linear(in_features, hidden_size, conv=not pool_type)
            self.pre_logits = nn.Sequential(OrderedDict(fc=hidden, act=act_layer()))
        self.drop = nn.Dropout(drop_rate)
        self.fc = linear(self.num_features, num_classes, conv=not pool_type)

    def reset(self, num_classes: int, pool_type: str | None = None) -> None:
        """Replace the last linear layer, and the pooling where `pool_type` is given; the rest stays."""
        if pool_type is not None:
            self.global_pool = _pool(pool_type)
            self.flatten = nn.Flatten(1) if pool_type else nn.Identity()
        conv = not self.global_pool.pool_type
        if isinstance(self.pre_logits, nn.Sequential):
            self.pre_logits.fc = _as_linear(self.pre_logits.fc, conv)
        self.fc = linear(self.num_features, num_classes, conv)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of a feature map (B, C, H, W), or with `pre_logits` what the last layer sees."""
        x = self.norm(self.global_pool(x))
        x = self.pre_logits(self.flatten(x))  # (B, num_features), or (B, num_features, H, W) without pooling
        x = self.drop(x)
        return x if pre_logits else self.fc(x)


def linear(in_features: int, out_features: int, conv: bool = False) -> nn.Module:
    """Return a linear layer, as a 1x1 convolution on request; without outputs, the identity."""
    if out_features == 0:
        return nn.Identity()
    return nn.Conv2d(in_features, out_features, 1) if conv else nn.Linear(in_features, out_features)


def _pool(pool_type: str) -> GlobalPool:
    pool = GlobalPool(pool_type, flatten=False)
    if pool.feat_mult() != 1:
        raise ValueError(f"global_pool {pool_type!r} changes the number of channels, which this head cannot take")
    return pool


def _as_linear(layer: nn.Module, conv: bool) -> nn.Module:
    out_features, in_features = layer.weight.shape[:2]
    new = linear(in_features, out_features, conv).to(layer.weight)
    new.load_state_dict({"weight": layer.weight.reshape(new.weight.shape), "bias": layer.bias})
    return new
