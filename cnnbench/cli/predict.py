"""`python -m cnnbench predict`: write what a checkpoint sees in images: classes, boxes or masks."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lightning.pytorch.callbacks import Callback

from cnnbench.callbacks.detections import DetectionWriter
from cnnbench.callbacks.masks import MaskWriter
from cnnbench.callbacks.multi_task_predictions import MultiTaskWriter
from cnnbench.callbacks.predictions import PredictionWriter
from cnnbench.cli.common.trainer import EvaluationCLI
from cnnbench.data.checks import at_least, probability
from cnnbench.data.files import FilesDataModule
from cnnbench.errors import UserError, either
from cnnbench.tasks import ClassificationTask, DetectionTask, MultiTaskTask, SegmentationTask
from cnnbench.tasks.recipe.parser import Parser


class _Output(NamedTuple):
    """What is written for a task: its name, what writes it, given the run's directory, and the options of that."""

    name: str
    writer: Callable[..., Callback]
    options: tuple[str, ...] = ()


_OUTPUTS = {
    ClassificationTask: _Output("predictions.csv", lambda directory: PredictionWriter(directory / "predictions.csv")),
    DetectionTask: _Output("predictions.json", DetectionWriter, ("threshold", "pictures")),
    MultiTaskTask: _Output("predictions.csv", MultiTaskWriter),
    SegmentationTask: _Output("masks", MaskWriter, ("pictures",)),
}


def run(args: Sequence[str] | None) -> None:
    """Predict, and write what is found."""
    PredictCLI(args)


class PredictCLI(EvaluationCLI):
    """Writes into the run's directory: `predictions.csv`; of detection `predictions.json`, of masks `masks/`."""

    command = "predict"
    images_of_ones_own = True

    def add_arguments_to_parser(self, parser: Parser) -> None:
        """Add what is drawn."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--threshold",
            type=float | None,
            default=None,
            help="Detection: lowest score of a box that is drawn (default 0.5); predictions.json has all boxes.",
        )
        parser.add_argument(
            "--pictures",
            type=int | None,
            default=None,
            help="Detection and segmentation: how many images are drawn (default all).",
        )

    def run_callbacks(self) -> list[Callback]:
        """Return the writer of the predictions.

        Raises:
            UserError: What is asked for is for another task, or out of range.
        """
        settings = self.config[self.command]
        asked = {name: settings[name] for name in ("threshold", "pictures") if settings[name] is not None}
        output = next(output for task, output in _OUTPUTS.items() if isinstance(self.model, task))
        for name in asked.keys() - {*output.options}:
            tasks = either([task.__name__ for task, other in _OUTPUTS.items() if name in other.options])
            raise UserError(f"--{name} is for {tasks}, not for {type(self.model).__name__}")
        at_least("pictures", asked.get("pictures", 0), 0)
        probability("threshold", asked.get("threshold", 0))
        self.written = output.name
        return [output.writer(self.directory, **asked)]

    def run_loggers(self, name: str) -> bool:
        """Track nothing: a prediction has no metrics."""
        return False

    def after_predict(self) -> None:
        """Print how many images there were, and where the predictions are."""
        data = self.datamodule
        below = f" below {data.predict_folder()}" if isinstance(data, FilesDataModule) else ""
        images = f"{len(data.datasets['predict']):,}{below}"
        self.say(images=images, written=str(self.directory / self.written))
