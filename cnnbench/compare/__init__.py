"""Head-to-head: whether two networks are one function, where they part if not, and which is better.

The package can be called. It compares networks with their references, or with a network that you name:

    report = cnnbench.compare("resnet50", "convnext_tiny", checks=["parity", "cost"])
    report = cnnbench.compare(my_network, against="timm/resnet50", image_size=64)
    print(report)

Args:
    models: Names ("resnet50", "timm/resnet50", "package.module:callable"), modules, or callables that return one.
    against: What each is held against, in the same forms; None: the reference that the registry names.
    checks: Of "parity", "cost", "speed", "memory" and "training"; default: all but training.
    settings: Such as `batch_size=8`, `image_size`, `num_classes`, `seed=0`: `inspect.signature(cnnbench.compare)` has
        all, and `help(cnnbench.compare.settings.Settings)` explains them.

Returns:
    A `cnnbench.compare.result.Report`: a comparison a model, in their order. Which of several could not be compared
    says why in `error`.

Raises:
    UserError: There is no model, a setting is wrong, or the only pair cannot be compared.
"""

import sys
from collections.abc import Sequence
from inspect import Parameter, Signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbench.compare.result import Report


class _CallablePackage(ModuleType):
    """A package that is a function too: importing any part of it sets `cnnbench.compare` to the package."""

    def __call__(
        self, *models: Any, against: Any = None, checks: Sequence[str] | None = None, **settings: Any
    ) -> "Report":
        """Compare networks with their references; see the package."""
        from cnnbench.compare.session import compare_models

        return compare_models(models, against, checks, settings)

    @property
    def __signature__(self) -> Signature:
        """All that can be set, with its default."""
        from dataclasses import fields

        from cnnbench.compare.settings import Settings
        from cnnbench.compare.sides import Spec

        settings = [
            Parameter(item.name, Parameter.KEYWORD_ONLY, default=item.default, annotation=item.type)
            for item in fields(Settings)
            if item.name != "checks"
        ]
        models = Parameter("models", Parameter.VAR_POSITIONAL, annotation=Spec)
        against = Parameter("against", Parameter.KEYWORD_ONLY, default=None, annotation=Spec | None)
        checks = Parameter("checks", Parameter.KEYWORD_ONLY, default=None, annotation=Sequence[str] | None)
        return Signature([models, against, checks, *settings])


compare = sys.modules[__name__]
compare.__class__ = _CallablePackage
