"""`python -m cnnbench predict`: write what a checkpoint sees in images, classes or boxes."""

from collections.abc import Sequence

from lightning.pytorch.callbacks import Callback

from cnnbench.callbacks.detections import DetectionWriter
from cnnbench.callbacks.predictions import PredictionWriter
from cnnbench.cli.common.trainer import EvaluationCLI
from cnnbench.data import ImageFolderDataModule
from cnnbench.data.checks import at_least
from cnnbench.errors import UserError
from cnnbench.tasks import DetectionTask
from cnnbench.tasks.recipe.parser import Parser


def run(args: Sequence[str] | None) -> None:
    """Predict, and write what is found."""
    PredictCLI(args)


class PredictCLI(EvaluationCLI):
    """Writes into the run's directory: `predictions.csv`, or of a detector `predictions.json` and pictures."""

    command = "predict"
    images_of_ones_own = True

    def add_arguments_to_parser(self, parser: Parser) -> None:
        """Add what is drawn of detections."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--threshold",
            type=float | None,
            default=None,
            help="Detection: lowest score of a box that is drawn (default 0.5); predictions.json has all boxes.",
        )
        parser.add_argument(
            "--pictures", type=int | None, default=None, help="Detection: how many images are drawn (default all)."
        )

    def run_callbacks(self) -> list[Callback]:
        """Return the writer of the predictions.

        Raises:
            UserError: What is asked for is for detectors, or out of range.
        """
        settings = self.config[self.command]
        asked = {name: settings[name] for name in ("threshold", "pictures") if settings[name] is not None}
        self.written = "predictions.json" if isinstance(self.model, DetectionTask) else "predictions.csv"
        if isinstance(self.model, DetectionTask):
            at_least("pictures", asked.get("pictures", 0), 0)
            return [DetectionWriter(self.directory, **asked)]
        if asked:
            raise UserError(f"--{next(iter(asked))} is for DetectionTask, not for {type(self.model).__name__}")
        return [PredictionWriter(self.directory / self.written)]

    def run_loggers(self, name: str) -> bool:
        """Track nothing: a prediction has no metrics."""
        return False

    def after_predict(self) -> None:
        """Print how many images there were, and where the predictions are."""
        data = self.datamodule
        folder = (
            data.predict_folder() if isinstance(data, ImageFolderDataModule) else getattr(data, "predict_root", None)
        )
        images = f"{len(data.datasets['predict']):,}" + ("" if folder is None else f" below {folder}")
        self.say(images=images, written=str(self.directory / self.written))
