"""What a network is made of, layer by layer: shapes, parameters, multiply-adds, receptive fields.

Everything is found by running the network on tensors without data (torch's meta device): nothing is computed, and the
network that was given keeps its mode, its weights, its buffers and the random state.
"""

from cnnbench.analysis.layers import Inspection, Layer, inspect_layers, receptive_field
from cnnbench.analysis.macs import count_macs
from cnnbench.analysis.parameters import count_parameters
from cnnbench.analysis.report import ReceptiveField
from cnnbench.analysis.shapes import output_size

__all__ = [
    "Inspection",
    "Layer",
    "ReceptiveField",
    "count_macs",
    "count_parameters",
    "inspect_layers",
    "output_size",
    "receptive_field",
]
