"""Figures of a network of several tasks, of each head and of all together."""

from collections.abc import Collection, Mapping

from torch import Tensor, nn
from torchvision.ops import box_iou

from cnnbench.tasks.mean_of_samples import MeanOfSamples
from cnnbench.tasks.multi_task_losses import BoxLoss
from cnnbench.tasks.retrieval import RecallAtOne

_SCORED = {"classification": "accuracy", "box": "box_iou", "embedding": "recall_at_1"}
_BESIDES = {"classification": "loss_classification", "box": "loss_box"}


class MultiTaskMetrics(nn.Module):
    """What the heads find against what is there; each sample counts once, whatever the number of processes.

    Args:
        heads: Names of the heads that there are.
    """

    def __init__(self, heads: Collection[str]) -> None:
        super().__init__()
        self.scored = [_SCORED[head] for head in heads]
        besides = [_BESIDES[head] for head in heads if head in _BESIDES]
        made = {name: RecallAtOne() if name == "recall_at_1" else MeanOfSamples() for name in self.scored + besides}
        self.metrics = nn.ModuleDict(made)
        self.box_loss = BoxLoss()

    def update(self, outputs: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> None:
        """Count samples, which may be none.

        Args:
            outputs: What the heads say, see `MultiTaskNetwork.forward`, and of classes `losses` (B,) too.
            truth: `label` (B,), and of boxes `box` (B, 4).
        """
        labels = truth["label"]
        if "embedding" in outputs:
            self.metrics["recall_at_1"].update(outputs["embedding"], labels)
        if "classification" in outputs and len(labels):
            self.metrics["accuracy"].update((outputs["classification"].argmax(dim=1) == labels).double())
            self.metrics["loss_classification"].update(outputs["losses"])
        if "box" in outputs and len(labels):
            boxes, there = outputs["box"], truth["box"]
            self.metrics["box_iou"].update(box_iou(boxes, there).diagonal())
            self.metrics["loss_box"].update(self.box_loss(boxes, there), weight=len(boxes))

    def figures(self) -> dict[str, float]:
        """Return the figures by name, and `score`, the mean of the heads'; what is NaN is left out."""
        figures = {name: metric.compute().item() for name, metric in self.metrics.items()}
        figures = {name: value for name, value in figures.items() if value == value}  # one image has no neighbour
        scores = [figures[name] for name in self.scored if name in figures]
        return figures | ({"score": sum(scores) / len(scores)} if scores else {})

    def reset(self) -> None:
        """Begin anew."""
        for metric in self.metrics.values():
            metric.reset()
