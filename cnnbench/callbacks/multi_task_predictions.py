"""What `predict` writes of several tasks: a row an image, and the embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer

from cnnbench.callbacks.atomic import written_whole
from cnnbench.callbacks.predictions import PredictionWriter

_SIDES = ("x1", "y1", "x2", "y2")


class MultiTaskWriter(PredictionWriter):
    """Writes `predictions.csv` and, of a network that embeds, `embeddings.npy`, whatever the number of processes.

    `predictions.csv` has the columns of `PredictionWriter` where the network classifies, and `x1`, `y1`, `x2`, `y2`
    where it finds a box: parts of the width and height of what it sees of the image, which for images in folders is
    what evaluation cuts out of them. `embeddings.npy` is float32 (images, D), in the order of the rows.

    Args:
        directory: Where to write; a file appears when it is complete.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "predictions.csv")
        self._embeddings: dict[int, np.ndarray] = {}

    def columns(self, outputs: Any, data: Any) -> list[dict[str, Any]]:
        """Return class and box of each image of a batch, by the name of the column."""
        columns = [{} for _ in outputs["index"]]
        if "probabilities" in outputs:
            columns = super().columns(outputs, data)
        if "box" in outputs:
            for own, box in zip(columns, outputs["box"].tolist(), strict=True):
                own |= {side: f"{value:.6f}" for side, value in zip(_SIDES, box, strict=True)}
        return columns

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Keep rows and embeddings of the batch."""
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, *args)
        if "embedding" in outputs:
            self._embeddings |= zip(outputs["index"].tolist(), outputs["embedding"].float().cpu().numpy(), strict=True)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather those of all processes and write them."""
        super().on_predict_end(trainer, pl_module)
        embeddings = self._embeddings
        if trainer.world_size > 1:
            shares: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(shares, embeddings)
            embeddings = {index: own for share in shares for index, own in share.items()}
        if trainer.is_global_zero and embeddings:
            path = self.path.with_name("embeddings.npy")
            with written_whole(path) as temporary, temporary.open("wb") as file:
                np.save(file, np.stack([embeddings[index] for index in sorted(embeddings)]))
