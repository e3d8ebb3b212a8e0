"""Lightning callbacks and loggers of a run: checkpoints, progress, predictions, tracking, the report to W&B."""
