"""What the tests know of each architecture; a file here a file of `cnnbench/models`, found by its being here.

Each file has:
    PARAMETERS: The parameters of every model, as its authors or ARCHITECTURES count them.
    SMALL: Arguments that make a small network of a model, by name; both ours and its reference take them.
        The contract is tested, and the mistakes are planted, in these.
    VARIATIONS: (name, arguments) whose networks must equal the reference's too.
    MISTAKES: By name, what each mistake is called and the function that plants it; see `plant.py`.
    IMAGE_SIZE (optional): By name, the side of the images in these tests where 64 does not do.
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
VARIATIONS: list[tuple[str, dict]] = [entry for family in _FAMILIES for entry in family.VARIATIONS]
SLOW: set[str] = {name for family in _FAMILIES for name in getattr(family, "SLOW", ())}


def images_for(name: str, batch: int = 3) -> torch.Tensor:
    """Random images, 64 pixels wide where the network is not made for another size."""
    cfg = models.pretrained_cfg(name)
    channels, height, _ = cfg["input_size"]
    side = IMAGE_SIZE.get(name, height if cfg["fixed_input_size"] else min(height, 64))
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(1))


def reference_source(name: str) -> str:
    """The source from which `create_model` gives the reference."""
    reference = models.model_info(name).reference
    return reference.partition("/")[0] if isinstance(reference, str) else "timm"
