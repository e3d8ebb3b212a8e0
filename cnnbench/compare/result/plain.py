"""Results as plain values, which JSON takes, and back."""

import math
from dataclasses import asdict, fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def to_json(value: Any) -> Any:
    """Return a result as dictionaries, lists and numbers; what is not finite becomes its name, such as "inf"."""
    if is_dataclass(value):
        return to_json(asdict(value))
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: Any, value: Any) -> Any:
    """Return what `to_json` made of an instance of `kind` as that instance.

    Args:
        kind: One of the classes of this package, or the type of one of their attributes.
        value: Dictionaries, lists and numbers.
    """
    if get_origin(kind) in (Union, UnionType):
        kinds = [option for option in get_args(kind) if option is not type(None)]
        return None if value is None else from_json(kinds[0], value)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{item.name: from_json(hints[item.name], value[item.name]) for item in fields(kind)})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list:
        return [from_json(arguments[0], item) for item in value]
    if origin is tuple:
        return tuple(from_json(argument, item) for argument, item in zip(arguments, value, strict=True))
    if origin is dict:
        return {key: from_json(arguments[1], item) for key, item in value.items()}
    return float(value) if kind is float else value
