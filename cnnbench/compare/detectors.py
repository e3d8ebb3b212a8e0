"""Detectors as sides of a comparison: called with images alone, they bring along the objects to be learned."""

from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.models.detection import Target, create_detector, detector_info, list_detectors

NUM_CLASSES = 90
INPUT_SIZE = (3, 320, 320)  # what two cores train in seconds
OBJECTS = (  # (x1, y1, x2, y2) as parts of the canvas: large, small, narrow, overlapping, at the edge
    (0.1, 0.15, 0.7, 0.8),
    (0.55, 0.5, 0.62, 0.56),
    (0.3, 0.05, 0.36, 0.45),
    (0.2, 0.25, 0.6, 0.75),
    (0.8, 0.7, 1.0, 1.0),
)


def is_detector(name: str) -> bool:
    """Tell whether there is a detector of that name that torchvision has too."""
    return name in list_detectors() and detector_info(name).reference is not None


def compared_detector(name: str, source: str, num_classes: int | None = None, **arguments: Any) -> nn.Module:
    """Build a detector that in training mode learns the same objects in whatever images it is given.

    Args:
        name: As `create_detector` takes it.
        source: Who wrote it.
        num_classes: Classes of objects; None: those of the published weights, or else 90.
        arguments: Further ones of `create_detector`.
    """
    if num_classes is None and detector_info(name).published is None:
        num_classes = NUM_CLASSES
    network = create_detector(name, source=source, num_classes=num_classes, **arguments)
    network.register_forward_pre_hook(_with_targets)
    return network


def _with_targets(network: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, list[Target]] | None:
    """Add targets to images; image i has all objects but the first i, so that of many one has none."""
    (images,) = args
    if not network.training or images.is_meta:
        return None
    height, width = images.shape[-2:]
    dtype = torch.promote_types(images.dtype, torch.float32)
    boxes = torch.tensor(OBJECTS, dtype=dtype, device=images.device) * torch.tensor(
        [width, height, width, height], dtype=dtype, device=images.device
    )
    labels = torch.arange(len(OBJECTS), device=images.device) % network.num_classes
    starts = [index % (len(OBJECTS) + 1) for index in range(len(images))]
    return images, [{"boxes": boxes[start:], "labels": labels[start:]} for start in starts]
