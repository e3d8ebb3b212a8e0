"""cnnbench: hand-written vision architectures beside trusted references, trained and compared head to head."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("cnnbench")

# Public name -> module that defines it. Imported at first use, so that `import cnnbench` and the command line's help
# do not wait for torch.
_PUBLIC = {
    "create_model": "cnnbench.models",
    "list_models": "cnnbench.models",
    "model_info": "cnnbench.models",
    "register": "cnnbench.models",
    "count_macs": "cnnbench.analysis",
    "count_parameters": "cnnbench.analysis",
    "output_size": "cnnbench.analysis",
    "receptive_field": "cnnbench.analysis",
    "compare": "cnnbench.compare",
    "align": "cnnbench.compare.parity",
    "assert_parity": "cnnbench.compare.assertion",
    "ClassificationTask": "cnnbench.tasks",
    "DetectionTask": "cnnbench.tasks",
    "SegmentationTask": "cnnbench.tasks",
    "MultiTaskTask": "cnnbench.tasks",
    "OptimConfig": "cnnbench.tasks",
    "DigitsDataModule": "cnnbench.data",
    "DigitLocalizationDataModule": "cnnbench.data",
    "MNISTDataModule": "cnnbench.data",
    "CIFAR10DataModule": "cnnbench.data",
    "CIFAR100DataModule": "cnnbench.data",
    "ImageFolderDataModule": "cnnbench.data",
    "DigitScenesDataModule": "cnnbench.data",
    "COCODataModule": "cnnbench.data",
    "VOCDataModule": "cnnbench.data",
    "DetectionFolderDataModule": "cnnbench.data",
    "DigitScenesSegmentationDataModule": "cnnbench.data",
    "OxfordPetsDataModule": "cnnbench.data",
    "VOCSegmentationDataModule": "cnnbench.data",
    "MaskFolderDataModule": "cnnbench.data",
    "BatchAugmentation": "cnnbench.data",
    "DetectionAugmentation": "cnnbench.data",
    "SegmentationAugmentation": "cnnbench.data",
    "FolderAugmentation": "cnnbench.data",
    "EMA": "cnnbench.callbacks.ema",
    "StopOnNonFinite": "cnnbench.callbacks.non_finite",
    "Finetuning": "cnnbench.callbacks.finetuning",
    "UserError": "cnnbench.errors",
    "main": "cnnbench.cli.main",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'cnnbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
