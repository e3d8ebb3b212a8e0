"""What the tests know of each architecture; a file here a file of `cnnbench/models`, found by its being here.

Each file has:
    PARAMETERS: The parameters of every model, as its authors or ARCHITECTURES count them.
    SMALL: Arguments that make a small network of a model, by name; both ours and its reference take them.
        The contract is tested, and the mistakes are planted, in these.
    VARIATIONS: (name, arguments) whose networks must equal the reference's too; a third entry is the images' size,
        (height, width).
    MISTAKES: By name, what each mistake is called and the function that plants it; see `plant.py`.
    IMAGE_SIZE (optional): By name, the side of the images in these tests where 64 does not do.
    AS_RESET (optional): By name, arguments that make a network built with another pooling the one that is reset to it.
    REORDERED (optional): Models in which ours adds in another order than the reference: equal but for rounding.
    SLOW (optional): Models that only `make test-all` compares in full size.
"""

from importlib import import_module
from pkgutil import iter_modules

import torch

import cnnbench.models as models

_FAMILIES = [import_module(f"families.{module.name}") for module in iter_modules(__path__)]


def _merged(name: str) -> dict:
    return {key: value for family in _FAMILIES for key, value in getattr(family, name, {}).items()}


PARAMETERS: dict[str, int] = _merged("PARAMETERS")
SMALL: dict[str, dict] = _merged("SMALL")
MISTAKES: dict[str, dict] = _merged("MISTAKES")
IMAGE_SIZE: dict[str, int] = _merged("IMAGE_SIZE")
AS_RESET: dict[str, dict] = _merged("AS_RESET")
VARIATIONS: list[tuple] = [entry for family in _FAMILIES for entry in family.VARIATIONS]
REORDERED: set[str] = {name for family in _FAMILIES for name in getattr(family, "REORDERED", ())}
SLOW: set[str] = {name for family in _FAMILIES for name in getattr(family, "SLOW", ())}


def images_for(name: str, batch: int = 3, full_size: bool = False) -> torch.Tensor:
    """Random images for the small network, or the one of full size; 64 pixels wide where that is free."""
    cfg = models.pretrained_cfg(name)
    channels, height, _ = cfg["input_size"]
    side = IMAGE_SIZE.get(name, height if cfg["fixed_input_size"] else min(height, 64))
    side = side if full_size else SMALL.get(name, {}).get("img_size", side)
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(1))


def reference_source(name: str) -> str:
    """The source from which `create_model` gives the reference."""
    reference = models.model_info(name).reference
    return reference.partition("/")[0] if isinstance(reference, str) else "timm"
