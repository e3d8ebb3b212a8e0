"""Whether a file is a config at all, told before jsonargparse reads it: a fault is named with its file and line."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from cnnbench.errors import UserError

_SECTIONS = {"model": (dict, str), "data": (dict, str), "trainer": (dict,)}  # what their values may be


def check_config_file(path: Path) -> None:
    """Refuse a file that is not a mapping in YAML, or that names a key twice.

    Raises:
        UserError: Naming the file and, where there is one, the line.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a config: it is not a text file (UTF-8)") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML{_reason(error)}") from error
    if content is None:
        raise UserError(f"{path} is empty: a config is a mapping of model, data and trainer")
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {_kind(content)}: a config is a mapping of model, data and trainer")
    for key, kinds in _SECTIONS.items():
        value = content.get(key)
        if value is not None and not isinstance(value, kinds):
            raise UserError(f"{path}: {key} is {_kind(value)}, but must be a mapping")


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, where YAML would drop the first without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value if isinstance(key, yaml.ScalarNode) else key for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.MarkedYAMLError(problem=f"{key!r} stands twice", problem_mark=mark)
        return super().construct_mapping(node, deep)


def _reason(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f", line {mark.line + 1}" if mark is not None else ""
    if mark is not None and mark.buffer is not None and mark.buffer[mark.pointer : mark.pointer + 1] == "\t":
        problem = "indent with spaces, not with a tab"
    return f"{where}: {problem or ' '.join(str(error).split())}"


def _kind(value: object) -> str:
    return {list: "a list", str: "a text"}.get(type(value), f"{value!r}")
