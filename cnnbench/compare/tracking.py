"""A report in Weights & Biases: the same table and page that are written to files."""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

from cnnbench.callbacks.tracking import QuietWandbLogger, WandbMode, requested_wandb_mode
from cnnbench.compare.report import write_report
from cnnbench.compare.result import Report


def track_report(report: Report, mode: WandbMode, directory: Path) -> str:
    """Log a report as a run of its own.

    Args:
        report: All comparisons.
        mode: "auto", "online", "offline" or "disabled", as for `fit`.
        directory: Where the run's files go; exists.

    Returns:
        Where the run is: its address, or how to upload it.

    Raises:
        UserError: `WANDB_MODE` is none of wandb's modes.
    """
    mode = requested_wandb_mode(mode)
    if mode == "disabled":
        return "disabled"
    logger = QuietWandbLogger(mode, save_dir=directory, name="compare", group="compare", job_type="compare")
    where = logger.where
    with logger.guarded("the report"), logger.staging(), TemporaryDirectory() as folder:
        _log(logger, report, Path(folder))
    logger.finalize("success")
    return where


def _log(logger: QuietWandbLogger, report: Report, folder: Path) -> None:
    import wandb

    written = {path.suffix: path for path in write_report(report, folder)}
    with written[".csv"].open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    page = wandb.Html(written[".html"].read_text(encoding="utf-8"))
    logger.experiment.config.update({"environment": report.environment, "command": report.command})
    logger.experiment.log({"compare/table": wandb.Table(columns=head, data=rows), "compare/page": page})
