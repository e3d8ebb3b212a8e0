"""Small networks in pairs: one function, written by two people."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """A residual block with a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.downsample = nn.Sequential(nn.Conv2d(4, 6, 1, stride=2, bias=False), nn.BatchNorm2d(6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class OtherBlock(nn.Module):
    """The same under other names, registered the other way round, the projection first."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut_norm = nn.BatchNorm2d(6)
        self.shortcut = nn.Conv2d(4, 6, 1, stride=2, bias=False)
        self.body = nn.ModuleDict({"n2": nn.BatchNorm2d(6), "c2": nn.Conv2d(6, 6, 3, padding=1, bias=False)})
        self.first = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut_norm(self.shortcut(x))
        return (shortcut + self.body["n2"](self.body["c2"](self.first(x)))).relu_()


class Repeated(nn.Module):
    """A block whose shapes are those of every other: its projection is run last, or first."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.body, self.norm = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.projection, self.projection_norm = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.projection_norm(self.projection(x)) if self.first else None
        y = self.norm(self.body(x)).relu()
        return y + (shortcut if self.first else self.projection_norm(self.projection(x)))


class Branches(nn.Module):
    """Four branches beside each other; two of like shapes are told apart by their place in the concatenation."""

    def __init__(self, order: str = "abcd") -> None:
        super().__init__()
        made = {
            "a": lambda: nn.Conv2d(6, 3, 1),
            "b": lambda: nn.Conv2d(6, 3, 1),
            "c": lambda: nn.Sequential(nn.Conv2d(6, 3, 1), nn.ReLU(), nn.Conv2d(3, 5, 3, padding=1)),
            "d": lambda: nn.Conv2d(6, 2, 3, padding=1),
        }
        self.branches = nn.ModuleDict({name: made[name]() for name in order})
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        found = {name: self.branches[name](x) for name in self.order}
        return torch.cat([found[name] for name in "abcd"], 1)


class Dense(nn.Module):
    """Each layer sees all before it: by one concatenation, or by concatenations of concatenations."""

    def __init__(self, running: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(4 + 2 * i, 2, 3, padding=1) for i in range(3))
        self.running = running

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            new = layer(features[0] if self.running else torch.cat(features, 1)).relu()
            features = [torch.cat([features[0], new], 1)] if self.running else [*features, new]
        return features[0] if self.running else torch.cat(features, 1)


class Pointwise(nn.Module):
    """A mixer of channels: by 1x1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(F.gelu(self.fc1(x)))


class PointwiseLast(nn.Module):
    """The same with channels last, by linear layers, the bias added by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Linear(8, 4, bias=False), nn.Linear(4, 8, bias=False)
        self.offset = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.widen(x.permute(0, 2, 3, 1)) + self.offset
        return x + self.narrow(F.gelu(y)).permute(0, 3, 1, 2)


class MatrixPointwise(nn.Module):
    """The same by bare matrices, stored with inputs first."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.randn(8, 4))
        self.b = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(x.flatten(2).transpose(1, 2) @ self.w1 + self.b) @ self.w2
        return y.transpose(1, 2).unflatten(2, x.shape[2:]) + x


class Gate(nn.Module):
    """Squeeze and excitation by linear layers or by convolutions."""

    def __init__(self, convolutions: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3)
        self.one = nn.Conv2d(8, 2, 1) if convolutions else nn.Linear(8, 2)
        self.two = nn.Conv2d(2, 8, 1) if convolutions else nn.Linear(2, 8)
        self.convolutions = convolutions

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        squeezed = x.mean((2, 3), keepdim=self.convolutions)
        gate = torch.sigmoid(self.two(F.relu(self.one(squeezed))))
        return x * gate if self.convolutions else gate[:, :, None, None] * x


class Attention(nn.Module):
    """Self-attention over the places of a map; the projections of queries, keys and values joint or apart."""

    def __init__(self, joint: bool, order: str = "qkv") -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        if joint:
            self.qkv = nn.Linear(4, 12)
        else:
            self.projections = nn.ModuleDict({name: nn.Linear(4, 4) for name in order})
        self.out = nn.Linear(4, 4)
        self.joint = joint

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x.flatten(2).transpose(1, 2))
        if self.joint:
            q, k, v = self.qkv(y).chunk(3, -1)
        else:
            made = {name: projection(y) for name, projection in self.projections.items()}
            q, k, v = made["q"], made["k"], made["v"]
        weights = torch.softmax(q @ k.transpose(1, 2) / 2, -1)
        return x + self.out(weights @ v).transpose(1, 2).unflatten(2, x.shape[2:])


class Twice(nn.Module):
    """One convolution used twice, with a norm of its own each time, under one or two names."""

    def __init__(self, names: int = 1) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2))
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        if names == 2:
            self.again = self.conv

    def forward(self, x: Tensor) -> Tensor:
        again = getattr(self, "again", self.conv)
        return again(self.norms[1](self.conv(self.norms[0](x)).relu())).tanh()


class Renamed(nn.Module):
    """A network under another name."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = network

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def classifier(whole_map: bool) -> nn.Module:
    """Fully connected layers: linear ones, or convolutions as large as their map."""
    if whole_map:
        return nn.Sequential(nn.Conv2d(4, 7, 8), nn.ReLU(), nn.Conv2d(7, 5, 1), nn.Flatten())
    layers = OrderedDict(flat=nn.Flatten(), wide=nn.Linear(256, 7), act=nn.ReLU(), last=nn.Linear(7, 5))
    return nn.Sequential(layers)
