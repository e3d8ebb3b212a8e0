"""Blocks that several architectures share; plain PyTorch that imports nothing beyond this folder."""

from cnnbench.layers.drop import DropPath
from cnnbench.layers.head import NormMlpHead, linear
from cnnbench.layers.network import Network
from cnnbench.layers.norm import BatchNormReLU2d, LayerNorm2d
from cnnbench.layers.pool import GlobalPool
from cnnbench.layers.rounding import make_divisible
from cnnbench.layers.squeeze_excite import SqueezeExcite
from cnnbench.layers.stage import Stage

__all__ = [
    "BatchNormReLU2d",
    "DropPath",
    "GlobalPool",
    "LayerNorm2d",
    "Network",
    "NormMlpHead",
    "SqueezeExcite",
    "Stage",
    "linear",
    "make_divisible",
]
