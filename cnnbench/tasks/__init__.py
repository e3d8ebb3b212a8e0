"""Tasks: LightningModules that train a network by name on what a data module tells."""

from cnnbench.tasks.classification import ClassificationTask
from cnnbench.tasks.detection import DetectionTask
from cnnbench.tasks.multi_task import MultiTaskTask
from cnnbench.tasks.optim import OptimConfig
from cnnbench.tasks.segmentation import SegmentationTask

__all__ = ["ClassificationTask", "DetectionTask", "MultiTaskTask", "OptimConfig", "SegmentationTask"]
