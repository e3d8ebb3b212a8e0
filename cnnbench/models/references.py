"""References for what neither timm nor torchvision has: put together from timm's layers, not from ours."""

from timm.layers import NormMlpClassifierHead, create_act_layer, create_conv2d, create_pool2d
from torch import nn


class _Assembled(nn.Sequential):
    """Named layers in a row, then a head of timm: what timm's builders need of a model."""

    def __init__(self, layers: dict[str, nn.Module], head: NormMlpClassifierHead, features: dict[str, int]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.head = head
        self.num_features = head.in_features
        self.head_hidden_size = head.num_features
        self.num_classes = getattr(head.fc, "out_features", getattr(head.fc, "out_channels", 0))
        self.feature_info = [
            {"num_chs": layers[name.replace("act", "c")].out_channels, "reduction": reduction, "module": name}
            for name, reduction in features.items()
        ]


def lenet5(num_classes: int = 10, in_chans: int = 1, global_pool: str = "avg", drop_rate: float = 0.0) -> nn.Module:
    """Assemble LeNet-5 (LeCun et al., 1998): tanh, average pooling, C3 fully connected to S2."""
    layers = {
        "c1": create_conv2d(in_chans, 6, 5, padding=0, bias=True),
        "act1": create_act_layer("tanh"),
        "s2": create_pool2d("avg", 2, padding=0),
        "c3": create_conv2d(6, 16, 5, padding=0, bias=True),
        "act3": create_act_layer("tanh"),
        "s4": create_pool2d("avg", 2, padding=0),
        "c5": create_conv2d(16, 120, 5, padding=0, bias=True),
        "act5": create_act_layer("tanh"),
    }
    head = NormMlpClassifierHead(
        120,
        num_classes,
        hidden_size=84,
        pool_type=global_pool,
        drop_rate=drop_rate,
        norm_layer=nn.Identity,
        act_layer="tanh",
    )
    return _Assembled(layers, head, features={"act1": 1, "act3": 2, "act5": 4})
