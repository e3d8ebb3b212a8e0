"""`python -m cnnbench predict`: write the classes that a checkpoint sees in images."""

from collections.abc import Sequence

from lightning.pytorch.callbacks import Callback

from cnnbench.callbacks.predictions import PredictionWriter
from cnnbench.cli.common.trainer import EvaluationCLI
from cnnbench.data import ImageFolderDataModule


def run(args: Sequence[str] | None) -> None:
    """Predict, and write `predictions.csv`."""
    PredictCLI(args)


class PredictCLI(EvaluationCLI):
    """Writes `predictions.csv` into the run's directory."""

    command = "predict"
    images_of_ones_own = True

    def run_callbacks(self) -> list[Callback]:
        """Return the writer of the predictions."""
        return [PredictionWriter(self.directory / "predictions.csv")]

    def run_loggers(self, name: str) -> bool:
        """Track nothing: a prediction has no metrics."""
        return False

    def after_predict(self) -> None:
        """Print how many images there were, and where the predictions are."""
        data = self.datamodule
        below = f" below {data.predict_folder()}" if isinstance(data, ImageFolderDataModule) else ""
        images = f"{len(data.datasets['predict']):,}{below}"
        self.say(images=images, written=str(self.directory / "predictions.csv"))
