"""Networks that classify a pooled feature map by one linear layer; how the layers of the head are named differs."""

import torch
from torch import Tensor, nn

from cnnbench.layers.head import linear
from cnnbench.layers.network import Network
from cnnbench.layers.pool import GlobalPool


class PooledNetwork(Network):
    """A network with pooling, dropout and the last linear layer as children of its own.

    A subclass registers its layers in the order in which they run, sets `feature_info`, and calls `add_head`. One
    that calls the linear layer otherwise than `fc` sets `classifier_name` and writes `classify`.
    """

    classifier_name = "fc"

    def add_head(self, num_classes: int, global_pool: str, drop_rate: float, num_features: int | None = None) -> None:
        """Create pooling, dropout and the last linear layer.

        Args:
            num_classes: Outputs; 0 leaves the linear layer out.
            global_pool: One of `GlobalPool`'s.
            drop_rate: Dropout in front of the linear layer.
            num_features: Channels of the features; None: those of the last of `feature_info`.
        """
        self.num_features = self.feature_info[-1]["num_chs"] if num_features is None else num_features
        self.global_pool = GlobalPool(global_pool)
        self.head_drop = nn.Dropout(drop_rate)
        self._set_classifier(num_classes)

    def _set_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        classifier = linear(self.head_hidden_size, num_classes).to(next(self.parameters()))
        setattr(self, self.classifier_name, classifier)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of a feature map, or with `pre_logits` what the classifier would see."""
        x = self.head_drop(self.global_pool(x))
        return x if pre_logits else self.classify(x)

    def classify(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of the pooled features (B, head_hidden_size)."""
        return self.fc(x)

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.get_submodule(self.classifier_name)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last linear layer (0: by nothing), and the pooling where `global_pool` is given."""
        if global_pool is not None:
            self.global_pool = GlobalPool(global_pool)
        self._set_classifier(num_classes)


class HeadNetwork(Network):
    """A network with a module `head` that pools and classifies: `PooledHead` or `NormMlpHead`.

    A subclass registers its layers, sets `num_features`, and calls `add_head`.
    """

    def add_head(self, head: nn.Module, num_classes: int) -> None:
        """Take a head, and note how wide it is in front of its last layer."""
        self.num_classes = num_classes
        self.head = head
        self.head_hidden_size = head.num_features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of a feature map, or with `pre_logits` what the classifier would see."""
        return self.head(x, pre_logits)

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the head's last layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer (0: by nothing), and the pooling where `global_pool` is given."""
        weight = next(self.parameters())
        self.head.reset(num_classes, global_pool)
        self.head.to(weight)
        self.num_classes = num_classes
        self.head_hidden_size = self.head.num_features
