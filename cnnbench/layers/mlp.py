"""The part of a Transformer's block that works on each position by itself."""

from torch import Tensor, nn


class Mlp(nn.Module):
    """Two linear layers over the last dimension, a GELU between them and dropout after each.

    Args:
        dim: Width of what comes in and goes out.
        hidden_dim: Width in between.
        drop: Dropout.
    """

    def __init__(self, dim: int, hidden_dim: int, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        x = self.drop1(self.act(self.fc1(x)))  # (..., hidden_dim)
        return self.drop2(self.fc2(x))
