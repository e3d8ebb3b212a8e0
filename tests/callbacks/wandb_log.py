"""Reads the transaction log that an offline W&B run leaves: `wandb/offline-run-*/run-*.wandb`."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class WandbLog:
    """What an offline run recorded.

    Attributes:
        group: Of the run, among the project's.
        job_type: Of the run, within its group.
        config: Settings of the run.
        history: One mapping a call of `run.log`, with its metrics.
        summary: Last values.
        exit_codes: One, where the run has ended.
        artifacts: Files of each artifact on this machine: artifact -> name in it -> path.
    """

    def __init__(self, path: Path) -> None:
        self.group = self.job_type = ""
        self.config: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.exit_codes: list[int] = []
        self.artifacts: dict[str, dict[str, Path]] = {}
        for record in _records(path):
            self._take(record, record.WhichOneof("record_type"))

    def _take(self, record: Any, kind: str) -> None:
        if kind == "run":
            self.group, self.job_type = record.run.run_group, record.run.job_type
            _update(self.config, record.run.config.update)
        elif kind == "config":
            _update(self.config, record.config.update)
        elif kind == "history":
            self.history.append(_update({}, record.history.item))
        elif kind == "summary":
            _update(self.summary, record.summary.update)
        elif kind == "exit":
            self.exit_codes.append(record.exit.exit_code)
        elif kind == "artifact":
            contents = record.artifact.manifest.contents
            self.artifacts[record.artifact.name] = {file.path: Path(file.local_path) for file in contents}


def _update(values: dict[str, Any], items: Any) -> dict[str, Any]:
    for item in items:
        *folders, name = item.nested_key or [item.key]
        place = values
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = json.loads(item.value_json)
    return values


def _records(path: Path) -> Iterator[Any]:
    """Yield the records: LevelDB's log format (blocks of 32 KiB, parts with a 7-byte head) behind a 7-byte head."""
    from wandb.proto.wandb_internal_pb2 import Record

    content = path.read_bytes()
    assert content[:4] == b":W&B"
    position, parts = 7, b""
    while position < len(content):
        if _BLOCK - position % _BLOCK < 7:  # the rest of a block is too short for a head
            position += _BLOCK - position % _BLOCK
            continue
        _crc, length, part = struct.unpack_from("<IHB", content, position)
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if part in (_FULL, _LAST):
            yield Record.FromString(parts)
            parts = b""
