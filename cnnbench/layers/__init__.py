"""Blocks that several architectures share; plain PyTorch that imports nothing beyond this folder."""

from cnnbench.layers.attention import Attention
from cnnbench.layers.branches import Branches
from cnnbench.layers.conv_norm import ConvNormAct
from cnnbench.layers.drop import DropPath
from cnnbench.layers.head import NormMlpHead, PooledHead, linear
from cnnbench.layers.inception_network import InceptionNetwork
from cnnbench.layers.mlp import Mlp
from cnnbench.layers.mobile_network import MobileNetwork, Row
from cnnbench.layers.network import Network
from cnnbench.layers.norm import BatchNormReLU2d, LayerNorm2d
from cnnbench.layers.pool import GlobalPool
from cnnbench.layers.pooled_network import HeadNetwork, PooledNetwork
from cnnbench.layers.rounding import make_divisible
from cnnbench.layers.squeeze_excite import SqueezeExcite
from cnnbench.layers.stage import PooledStage, Stage
from cnnbench.layers.token_network import TokenNetwork

__all__ = [
    "Attention",
    "BatchNormReLU2d",
    "Branches",
    "ConvNormAct",
    "DropPath",
    "GlobalPool",
    "HeadNetwork",
    "InceptionNetwork",
    "LayerNorm2d",
    "Mlp",
    "MobileNetwork",
    "Network",
    "NormMlpHead",
    "PooledHead",
    "PooledNetwork",
    "PooledStage",
    "Row",
    "SqueezeExcite",
    "Stage",
    "TokenNetwork",
    "linear",
    "make_divisible",
]
