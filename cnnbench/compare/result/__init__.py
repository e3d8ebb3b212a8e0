"""What a comparison finds: plain values that print, serialise and travel between processes.

"Ours" is the network that was named, "theirs" the one it is held against, whoever wrote either. A part that was not
asked for is None.
"""

from cnnbench.compare.result.cost import Cost, SideCost, StageCost
from cnnbench.compare.result.estimate import Estimate
from cnnbench.compare.result.memory import Memory
from cnnbench.compare.result.parity import Divergence, Errors, LayerError, Parity, Weights
from cnnbench.compare.result.plain import from_json, to_json
from cnnbench.compare.result.published import Published
from cnnbench.compare.result.report import Comparison, Report
from cnnbench.compare.result.speed import Contest, Served, Speed
from cnnbench.compare.result.training import Duel, MetricSummary, Training

__all__ = [
    "Comparison",
    "Contest",
    "Cost",
    "Divergence",
    "Duel",
    "Errors",
    "Estimate",
    "LayerError",
    "Memory",
    "MetricSummary",
    "Parity",
    "Published",
    "Report",
    "Served",
    "SideCost",
    "Speed",
    "StageCost",
    "Training",
    "Weights",
    "from_json",
    "to_json",
]
