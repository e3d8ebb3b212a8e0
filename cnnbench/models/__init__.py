"""Hand-written architectures, one paper a file, each beside the reference that it equals.

Every module of this folder is imported here, so that a new architecture is one new file that calls
`register`.
"""

from importlib import import_module
from pkgutil import iter_modules

from cnnbench.models.factory import create_model, has_published_weights, pretrained_cfg
from cnnbench.models.input_size import check_input_size
from cnnbench.models.registry import ModelInfo, Paper, list_models, model_info, register
from cnnbench.models.weights import load_weights

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "ModelInfo",
    "Paper",
    "check_input_size",
    "create_model",
    "has_published_weights",
    "list_models",
    "load_weights",
    "model_info",
    "pretrained_cfg",
    "register",
]
