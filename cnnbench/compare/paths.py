"""Paths of modules, such as "layer1.0.conv2"."""

from collections.abc import Container
from difflib import SequenceMatcher
from itertools import takewhile


def common(path: str, other: str) -> str:
    """Return the innermost module that holds two."""
    steps = takewhile(lambda pair: pair[0] == pair[1], zip(path.split("."), other.split("."), strict=False))
    return ".".join(step for step, _ in steps)


def nearest(path: str, modules: Container[str]) -> str:
    """Return the innermost module on a path that there is."""
    while path and path not in modules:
        path = path.rpartition(".")[0]
    return path


def likeness(path: str, other: str) -> float:
    """Return how much two paths have in common, from 0 to 1."""
    return SequenceMatcher(None, path, other).ratio()
