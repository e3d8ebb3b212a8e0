"""How a segmenter is evaluated: whole images and tiles, in pixels of the original masks, each counted once."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.data.base import counted
from cnnbench.data.segmentation.base import IGNORED
from cnnbench.errors import UserError
from cnnbench.layers.precision import at_least_float32
from cnnbench.models.segmentation import segmented, tiled, tiled_bands
from cnnbench.tasks.base import Task
from cnnbench.tasks.mean_of_samples import MeanOfSamples
from cnnbench.tasks.segmentation_metrics import SegmentationMetrics, classes_of, counted_pixels

_STAGES = ("val", "test")


class SegmentationEvaluation(Task):
    """A task whose network is a segmenter: it validates, tests and predicts.

    A subclass has the hyperparameters `tile` and `overlap`, calls `configure_metrics`, and trains.
    """

    def configure_metrics(self, num_classes: int) -> None:
        """Create the metrics of each stage."""
        self.metrics = nn.ModuleDict({f"{stage}_metrics": SegmentationMetrics(num_classes) for stage in _STAGES})
        self.mean_losses = nn.ModuleDict({f"{stage}_loss": MeanOfSamples() for stage in _STAGES})

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (B, num_classes, H, W) for all pixels of normalised images (B, C, H, W).

        While training with deep supervision it is a tuple: these, and the logits of coarser maps.
        """
        tile = self.hparams.tile
        if tile is None or max(images.shape[-2:]) <= tile or self.training:
            return segmented(self.network, images, super().forward)
        return tiled(self.network, images, tile, self.hparams.overlap, forward=super().forward)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Count the pixels; return the classes found and there of the images that count."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Count the pixels; return the classes found and there of the images that count."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Return index (B,), and the class of each pixel of each image, in its own pixels: a list of uint8 (H, W)."""
        return {"index": batch["index"][counted(batch)], "classes": list(self._classes(batch))}

    def on_validation_epoch_start(self) -> None:
        """Begin anew."""
        super().on_validation_epoch_start()
        self._reset("val")

    def on_test_epoch_start(self) -> None:
        """Begin anew."""
        self._reset("test")

    def on_validation_epoch_end(self) -> None:
        """Log the figures."""
        self._log_figures("val")

    def on_test_epoch_end(self) -> None:
        """Log the figures."""
        self._log_figures("test")

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> dict[str, Any]:
        found, there = [], []
        for logits, mask in zip(self._in_original_pixels(batch), batch["mask"], strict=False):
            mask = mask[: logits.shape[-2], : logits.shape[-1]]
            if count := counted_pixels(mask):
                loss = F.cross_entropy(logits[None], mask[None].long(), ignore_index=IGNORED)
                self.mean_losses[f"{stage}_loss"].update(loss, weight=count)
            found.append(classes_of(logits[None])[0])
            there.append(mask)
            self.metrics[f"{stage}_metrics"].update(found[-1], mask)
        return {"classes": found, "masks": there}

    def _in_original_pixels(self, batch: dict[str, Tensor]) -> Iterator[Tensor]:
        """Yield the logits (K, H, W) of each image of a batch that counts, in pixels of the original image."""
        originals = batch["original_size"][counted(batch)].tolist()
        for logits, (height, width) in zip(self._logits(batch), originals, strict=True):
            if logits.shape[-2:] != (height, width):
                logits = F.interpolate(logits[None], (height, width), mode="bilinear", align_corners=False)[0]
            yield logits

    def _logits(self, batch: dict[str, Tensor]) -> Iterator[Tensor]:
        """Yield the logits (K, H, W) of each image that counts; what pads a batch is seen by none of them."""
        rows = counted(batch)
        images, sizes = batch["image"], batch["size"].tolist()
        if all((height, width) == images.shape[-2:] for height, width in sizes):
            yield from at_least_float32(self(images))[rows]
            return
        for image, (height, width) in zip(images[rows], sizes[rows], strict=True):
            yield at_least_float32(self(image[None, :, :height, :width]))[0]

    def _classes(self, batch: dict[str, Tensor]) -> Iterator[Tensor]:
        """Yield the classes (H, W) of each image that counts, by tiles as soon as a row of them is finished."""
        tile, images = self.hparams.tile, batch["image"]
        if tile is None or max(images.shape[-2:]) <= tile or not torch.equal(batch["size"], batch["original_size"]):
            yield from (classes_of(logits[None])[0] for logits in self._in_original_pixels(batch))
            return
        rows = counted(batch)
        run = partial(tiled_bands, self.network, tile=tile, overlap=self.hparams.overlap, forward=super().forward)
        for image, (height, width) in zip(images[rows], batch["size"][rows].tolist(), strict=True):
            yield torch.cat([classes_of(band)[0] for band in run(image[None, :, :height, :width])])

    def _reset(self, stage: str) -> None:
        self.metrics[f"{stage}_metrics"].reset()
        self.mean_losses[f"{stage}_loss"].reset()

    def _log_figures(self, stage: str) -> None:
        figures = self.metrics[f"{stage}_metrics"].figures(self._class_names)
        if "miou" not in figures:
            if self.trainer.sanity_checking:  # which looks at the first batches alone
                return
            raise UserError(f"no pixel of the {stage} masks counts: there is nothing to evaluate")
        figures["loss"] = self.mean_losses[f"{stage}_loss"].compute().item()
        for name, value in figures.items():
            # equal in all processes: the greatest is exact, where a mean may round
            self.log(f"{stage}/{name}", value, sync_dist=True, reduce_fx="max")
