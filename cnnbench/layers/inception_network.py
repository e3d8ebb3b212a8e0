"""What the Inception networks share: the head, and auxiliary heads that only learn."""

import torch
from torch import Tensor, nn

from cnnbench.layers.head import linear
from cnnbench.layers.network import Network
from cnnbench.layers.pool import GlobalPool


class InceptionNetwork(Network):
    """A network with a pooled linear head, and on maps half way auxiliary heads, each a module or None.

    A subclass registers its layers in the order in which they run, and then calls `add_head`.

    Attributes:
        aux_weight: What the loss of an auxiliary head counts.
        auxiliary_classifiers: The last layers of the auxiliary heads: "aux1.fc2".
    """

    aux_weight: float
    auxiliary_classifiers: tuple[str, ...]

    def add_head(self, num_classes: int, global_pool: str, drop_rate: float) -> None:
        """Create pooling, dropout and the last linear layer, on the last of the feature maps."""
        self.num_classes = num_classes
        self.num_features = self.feature_info[-1]["num_chs"]
        self.global_pool = GlobalPool(global_pool)
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.head_drop = nn.Dropout(drop_rate)
        self.fc = linear(self.head_hidden_size, num_classes)

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules of `forward_features` in order."""
        auxiliary = {name.partition(".")[0] for name in self.auxiliary_classifiers}
        names = [name for name, _ in self.named_children() if name not in auxiliary]
        return [self.get_submodule(name) for name in names[: names.index(self.feature_info[-1]["module"]) + 1]]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of a feature map, or with `pre_logits` what the classifier would see."""
        x = self.head_drop(self.global_pool(x))
        return x if pre_logits else self.fc(x)

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last linear layers (0: by nothing), and the pooling where `global_pool` is given."""
        weight = next(self.parameters())
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = GlobalPool(global_pool)
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.fc = linear(self.head_hidden_size, num_classes).to(weight)
        for path in self.auxiliary_classifiers:
            head, _, layer = path.partition(".")
            if getattr(self, head) is not None:
                classifier = linear(getattr(self, head).num_features, num_classes).to(weight)
                setattr(getattr(self, head), layer, classifier)
