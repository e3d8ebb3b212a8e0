"""`predictions.csv`: one row an image, in the order of the data, whatever the number of processes."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from cnnbench.callbacks.atomic import written_whole
from cnnbench.callbacks.shared_folder import why_nothing
from cnnbench.errors import UserError

TOP = 5


class PredictionWriter(Callback):
    """Writes class and probability of the five most probable classes of each image.

    Columns: `image` (file, or index where there are no files), `label` (where the data has labels), `class`,
    `probability`, then `class_2`, `probability_2`, … of the next ones.

    Args:
        path: File to write; it appears when it is complete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[int, dict[str, Any]] = {}

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Keep the rows of the batch."""
        data = trainer.datamodule
        columns = self.columns(outputs, data)
        labels = outputs["label"].tolist() if "label" in outputs else None
        for place, index in enumerate(outputs["index"].tolist()):
            known = {"image": data.index_name("predict", index)}
            if labels is not None:
                known["label"] = data.class_names[labels[place]]
            self._rows[index] = known | columns[place]

    def columns(self, outputs: Any, data: Any) -> list[dict[str, Any]]:
        """Return what is written of each image of a batch, by the name of the column."""
        names = data.class_names
        top = outputs["probabilities"].topk(min(TOP, len(names)))
        return [
            dict(item for rank, pair in enumerate(zip(*row, strict=True)) for item in _named(names, rank, *pair))
            for row in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the rows of all processes and write them."""
        rows = self._rows
        if trainer.world_size > 1:
            shares: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(shares, rows)
            rows = {index: row for share in shares for index, row in share.items()}
        if trainer.is_global_zero:
            if not rows:
                raise UserError(f"nothing was predicted: {why_nothing(trainer)}")
            _write(self.path, [rows[index] for index in sorted(rows)])


def _named(names: Sequence[str], rank: int, label: int, probability: float) -> list[tuple[str, str]]:
    suffix = f"_{rank + 1}" if rank else ""
    return [(f"class{suffix}", names[label]), (f"probability{suffix}", f"{probability:.6f}")]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
