"""`python -m cnnbench test`: evaluate a checkpoint on the test set."""

from collections.abc import Sequence

from cnnbench.cli.common.trainer import EvaluationCLI


def run(args: Sequence[str] | None) -> None:
    """Evaluate, and print the metrics."""
    TestCLI(args)


class TestCLI(EvaluationCLI):
    """Evaluates a checkpoint on the test set."""

    command = "test"

    def after_test(self) -> None:
        """Print the metrics."""
        self.print_metrics()
