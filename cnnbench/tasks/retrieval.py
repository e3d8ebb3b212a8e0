"""Retrieval: whether what lies nearest to an embedding is of its class."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

_AT_A_TIME = 1024  # embeddings that are compared with all others


class RecallAtOne(Metric):
    """The part of the samples whose nearest other sample, by the cosine, is of their class.

    All samples are gathered before any are compared: the figure is that of one process, whatever their number. It needs
    memory for all embeddings.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("embeddings", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, embeddings: Tensor, labels: Tensor) -> None:
        """Keep samples; none of a batch still have to be told, so that all processes have something to gather.

        Args:
            embeddings: float32 (B, D) of length 1.
            labels: int64 (B,).
        """
        self.embeddings.append(embeddings)
        self.labels.append(labels)

    def compute(self) -> Tensor:
        """Return the recall, NaN of fewer than two samples."""
        embeddings, labels = dim_zero_cat(self.embeddings), dim_zero_cat(self.labels)
        if len(labels) < 2:
            return torch.tensor(torch.nan, device=labels.device)
        places = torch.arange(len(labels), device=labels.device)
        hits = torch.zeros((), dtype=torch.int64, device=labels.device)
        for own in places.split(_AT_A_TIME):
            cosines = (embeddings[own] @ embeddings.T).scatter(1, own[:, None], -torch.inf)  # not itself
            hits += (labels[cosines.argmax(dim=1)] == labels[own]).sum()
        return hits / len(labels)
