"""Evaluates a checkpoint on sets of several sizes, in batches of several, in as many processes as run this.

Words: the checkpoint, a folder for what comes out, then number:batch_size:root of each set.
"""

import json
import os
import sys
from pathlib import Path

from lightning.pytorch import Trainer

from cnnbench.callbacks.predictions import PredictionWriter
from cnnbench.data import MNISTDataModule
from cnnbench.tasks import ClassificationTask


def main(checkpoint: str, folder: str, *cases: str) -> None:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    strategy = {"accelerator": "cpu", "devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    for case in cases:
        number, batch_size, root = case.split(":")
        out = Path(folder) / f"{number}-{batch_size}-{processes}"
        out.mkdir(exist_ok=True)
        trainer = Trainer(**strategy, **quiet, callbacks=[PredictionWriter(out / "predictions.csv")])
        data = MNISTDataModule(root, download=False, val_size=21, batch_size=int(batch_size), image_size=16)
        task = ClassificationTask("mini_resnet")
        trainer.test(task, data, ckpt_path=checkpoint, verbose=False)
        metrics = {key: value.item() for key, value in trainer.callback_metrics.items()}
        trainer.predict(task, data, ckpt_path=checkpoint, return_predictions=False)
        if trainer.is_global_zero:
            (out / "metrics.json").write_text(json.dumps(metrics))


main(*sys.argv[1:])
