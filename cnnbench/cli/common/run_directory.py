"""The directory of a run: `runs/<recipe>/<time>/`, its own for each run."""

from datetime import datetime
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from cnnbench.cli.common.processes import MARK
from cnnbench.cli.common.run_lock import LOCK
from cnnbench.errors import UserError


def recipe_name(config: Path | None, root: Path, default: str) -> str:
    """Return the name that runs of this recipe share.

    It is the recipe's path below `configs/`, such as `mnist/lenet5`; for the `config.yaml` of a former run below
    `root`, that run's name; for a recipe elsewhere its file's name; without one, `default`.
    """
    if config is None:
        return default
    path, root = config.resolve(), root.resolve()
    runs, has_saved = path.parent.parent, (path.parent / "checkpoints").is_dir()
    if root in runs.parents and (has_saved or path.name == "config.yaml"):
        return str(runs.relative_to(root))
    if has_saved:
        return runs.name
    folders = path.parts
    if "configs" in folders:
        below = len(folders) - folders[::-1].index("configs")
        return str(Path(*folders[below:]).with_suffix(""))
    return path.stem


def create_run_directory(root: Path, name: str, command: str) -> Path:
    """Create a directory that no other run has.

    Of several processes the first creates it, and tells the others once they are connected (`RunStart`); until then
    they have `root/name`, where nobody writes.

    Raises:
        UserError: It cannot be written.
    """
    if rank_zero_only.rank != 0:
        return root / name
    time = datetime.now().strftime("%Y%m%d-%H%M%S") + ("" if command == "fit" else f"-{command}")
    attempt = 0
    while True:
        directory = root / name / (f"{time}-{attempt}" if attempt else time)
        try:
            directory.mkdir(parents=True)
            return directory
        except FileExistsError:
            if not directory.is_dir():
                raise UserError(f"cannot write the run's directory {directory}: a file stands in its way") from None
            attempt += 1
        except OSError as error:
            raise UserError(
                f"cannot write the run's directory {directory}: {error.strerror}; "
                "choose another with --trainer.default_root_dir"
            ) from error


def remove_if_unused(directory: Path, root: Path) -> None:
    """Remove the directory of a run that never began: it holds its `config.yaml` and nothing else of value.

    The folders that it stood in, up to `root`, go too where it was alone there.
    """
    if rank_zero_only.rank != 0:
        return
    (directory / MARK).unlink(missing_ok=True)
    if {path.name for path in directory.iterdir()} - {"config.yaml", LOCK}:
        return
    for name in ("config.yaml", LOCK):
        (directory / name).unlink(missing_ok=True)
    while directory != root and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent
