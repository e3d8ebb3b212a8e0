"""What the Inception networks share: auxiliary heads that only learn."""

from torch import nn

from cnnbench.layers.head import linear
from cnnbench.layers.pooled_network import PooledNetwork


class InceptionNetwork(PooledNetwork):
    """A `PooledNetwork` with auxiliary heads on maps half way, each a module or None.

    Attributes:
        aux_weight: What the loss of an auxiliary head counts.
        auxiliary_classifiers: The last layers of the auxiliary heads: "aux1.fc2".
    """

    aux_weight: float
    auxiliary_classifiers: tuple[str, ...]

    def feature_chain(self) -> list[nn.Module]:
        """Return the modules of `forward_features` in order."""
        auxiliary = {name.partition(".")[0] for name in self.auxiliary_classifiers}
        names = [name for name, _ in self.named_children() if name not in auxiliary]
        return [self.get_submodule(name) for name in names[: names.index(self.feature_info[-1]["module"]) + 1]]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last linear layers (0: by nothing), and the pooling where `global_pool` is given."""
        super().reset_classifier(num_classes, global_pool)
        weight = next(self.parameters())
        for path in self.auxiliary_classifiers:
            head, _, layer = path.partition(".")
            if getattr(self, head) is not None:
                classifier = linear(getattr(self, head).num_features, num_classes).to(weight)
                setattr(getattr(self, head), layer, classifier)
