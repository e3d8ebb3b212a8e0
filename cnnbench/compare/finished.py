"""Finished comparisons kept in files, so that a run that was stopped goes on where it was."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnnbench.callbacks.atomic import written_whole
from cnnbench.compare.apart import Pair
from cnnbench.compare.result import Comparison, from_json, to_json
from cnnbench.compare.settings import Settings
from cnnbench.errors import UserError

PACKAGE = Path(__file__).parents[1]


class FinishedComparisons:
    """Comparisons below a directory, one file a pair.

    A file is found again only with the same names, settings, machine, versions and source of this package. A pair with
    a network of the user's own ("package.module:callable"), which may have changed, and one that failed are not kept.

    Args:
        directory: Made where it is not there.
        settings: What was compared, and how.
        environment: Of `cnnbench.compare.environment.environment`.
    """

    def __init__(self, directory: Path, settings: Settings, environment: dict[str, Any]) -> None:
        self.directory = directory
        recipe = None if settings.config is None else Path(settings.config).read_text(encoding="utf-8")
        machine = {key: value for key, value in environment.items() if key != "commit"}
        self._circumstances = to_json([asdict(settings), recipe, machine, _source()])

    def load(self, pair: Pair) -> Comparison | None:
        """Return what was found of a pair, or None.

        Raises:
            UserError: The file is not whole.
        """
        path = self._path(pair)
        if not path.is_file():
            return None
        try:
            return from_json(Comparison, json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no comparison that was kept: remove it") from error

    def save(self, pair: Pair, comparison: Comparison) -> None:
        """Keep what was found of a pair, unless it failed or may change."""
        if comparison.error is not None or any(":" in name for name in (pair.model, pair.against or "")):
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        with written_whole(self._path(pair)) as path:
            path.write_text(json.dumps(to_json(comparison), indent=1), encoding="utf-8")

    def _path(self, pair: Pair) -> Path:
        key = json.dumps([pair.model, pair.against, self._circumstances], sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        return self.directory / f"{pair.model.replace('/', '_')}-{digest}.json"


def _source() -> str:
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
    return digest.hexdigest()
