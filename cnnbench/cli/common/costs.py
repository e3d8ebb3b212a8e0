"""Parameters and multiply-adds of our models, counted once and kept in `costs.csv`, since counting takes a while.

`python -m cnnbench.cli.common.costs` (`make costs`) counts all of them and writes the file. A row names the class and
the arguments of its model and the input size; a model that differs in any of them, or has no row, is counted when it is
asked for. Where the code of a network changes, the tests say that the file has to be written anew.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("costs.csv")
COLUMNS = ("name", "network", "input_size", "parameters", "macs")


@dataclass(frozen=True)
class Cost:
    """What a model of 1000 classes costs: its parameters, and the multiply-adds of one image of its usual size."""

    parameters: int
    macs: int


Key = tuple[str, str, str]  # name, network, input size, as they stand in the file


def cost(name: str, source: str = "cnnbench") -> Cost:
    """Return the kept cost of a model, or count it.

    Args:
        name: A name that `cnnbench.create_model` takes.
        source: "cnnbench", "timm" or "torchvision"; only our models' costs are kept.
    """
    known = stored().get(key(name)) if source == "cnnbench" else None
    return known or count(name, source)


def count(name: str, source: str = "cnnbench") -> Cost:
    """Build a model without data and count what it costs."""
    import torch

    from cnnbench.analysis import count_macs, count_parameters
    from cnnbench.models import create_model

    with torch.device("meta"):
        network = create_model(name, source=source).eval()
    return Cost(count_parameters(network), count_macs(network))


@cache
def stored() -> dict[Key, Cost]:
    """Return the costs that are kept in the file."""
    with FILE.open(newline="") as file:
        return {
            (row["name"], row["network"], row["input_size"]): Cost(int(row["parameters"]), int(row["macs"]))
            for row in csv.DictReader(file)
        }


def key(name: str) -> Key:
    """Return what a kept cost of one of our models is found by: the name, how it is built, and the input size.

    Raises:
        UserError: If there is no such model.
    """
    from cnnbench.models import model_info

    info = model_info(name)
    arguments = ", ".join(f"{argument}={_text(value)}" for argument, value in info.kwargs.items())
    size = "x".join(map(str, info.pretrained_cfg["input_size"]))
    return name, f"{info.network.__module__}.{info.network.__qualname__}({arguments})", size


def _text(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else repr(value)


def _write() -> None:
    from cnnbench.models import list_models

    rows = [(*key(name), *vars(count(name)).values()) for name in list_models()]
    with FILE.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    _write()
