"""Detectors, one paper a file, over the feature maps of any classifier.

Every module of this folder is imported here, so that a new detector is one new file that calls `register_detector`.
"""

from importlib import import_module
from pkgutil import iter_modules

from cnnbench.models.detection.anchors import cluster_anchors
from cnnbench.models.detection.detector import Detections, Detector, Target
from cnnbench.models.detection.registry import backbone_of, create_detector, detector_info, list_detectors

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "Detections",
    "Detector",
    "Target",
    "backbone_of",
    "cluster_anchors",
    "create_detector",
    "detector_info",
    "list_detectors",
]
