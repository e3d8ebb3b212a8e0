"""Segmenters, one paper a file: a class for each pixel."""

from importlib import import_module
from pkgutil import iter_modules

from cnnbench.models.segmentation.inference import overlap_of_tiles, segmented, tiled, tiled_bands
from cnnbench.models.segmentation.registry import create_segmenter, list_segmenters, segmenter_info
from cnnbench.models.segmentation.segmenter import Segmenter

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "Segmenter",
    "create_segmenter",
    "list_segmenters",
    "overlap_of_tiles",
    "segmented",
    "segmenter_info",
    "tiled",
    "tiled_bands",
]
