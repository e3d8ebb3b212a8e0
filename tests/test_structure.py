"""The rules of the layout: four floors, imports downwards only, and what stands at the top level."""

import ast
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "cnnbench"
FLOORS = {
    "errors": 1,
    "layers": 1,
    "statistics": 1,
    "models": 2,
    "data": 2,
    "analysis": 2,
    "tasks": 3,
    "callbacks": 3,
    "compare": 3,
    "cli": 4,
    "__init__": 4,
    "__main__": 4,
}
TOP_LEVEL = {
    *("pyproject.toml", "cnnbench", "configs", "notebooks", "tests"),
    *("Makefile", "README.md", "LICENSE", ".gitignore", ".ci"),
}


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [Path(line) for line in listed.stdout.splitlines()]


def part(module):
    """The part of the package that a module belongs to: cnnbench.data.folder -> data."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


def imports(path):
    """Yield the modules of the package that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "cnnbench")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cnnbench":
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_or_stay(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(path):
        if module != "cnnbench":  # its version; the package itself imports nothing but on demand
            assert FLOORS[part(module)] <= FLOORS[own], f"{path} imports {module} from a floor above"


@pytest.mark.parametrize("name", ["models", "layers"])
def test_architectures_know_nothing_of_training(name):
    for path in (PACKAGE / name).rglob("*.py"):
        for word in ("lightning", "wandb", "jsonargparse", "cnnbench.cli"):
            assert f"import {word}" not in path.read_text() and f"from {word}" not in path.read_text(), path


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not a checkout")
def test_top_level_is_exactly_this():
    assert {path.parts[0] for path in tracked()} == TOP_LEVEL
