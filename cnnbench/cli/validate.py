"""`python -m cnnbench validate`: evaluate a checkpoint on the validation set."""

from collections.abc import Sequence

from cnnbench.cli.common.trainer import EvaluationCLI


def run(args: Sequence[str] | None) -> None:
    """Evaluate, and print the metrics."""
    ValidateCLI(args)


class ValidateCLI(EvaluationCLI):
    """Evaluates a checkpoint on the validation set."""

    command = "validate"

    def after_validate(self) -> None:
        """Print the metrics."""
        self.print_metrics()
