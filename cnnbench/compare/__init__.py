"""Head-to-head: whether two networks are one function, where they part if not, and which is better.

The package can be called: `cnnbench.compare("resnet50")` is `cnnbench.compare.session.compare("resnet50")`.
"""

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbench.compare.result import Report


class _CallablePackage(ModuleType):
    """A package that is a function too: importing any part of it sets `cnnbench.compare` to the package."""

    def __call__(
        self, *models: Any, against: Any = None, checks: Sequence[str] | None = None, **settings: Any
    ) -> "Report":
        """Compare networks with their references; see `cnnbench.compare.session.compare`."""
        from cnnbench.compare.session import compare as compare_models

        return compare_models(*models, against=against, checks=checks, **settings)


compare = sys.modules[__name__]
compare.__class__ = _CallablePackage
