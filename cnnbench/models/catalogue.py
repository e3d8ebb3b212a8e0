"""Networks by name, of one kind: what detectors and segmenters are looked up in; what refuses wrong arguments."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from torch import nn

from cnnbench.errors import UserError, did_you_mean, first_line


class Named(Protocol):
    """What is known of a network.

    Attributes:
        name: What it is asked for by.
    """

    name: str


Info = TypeVar("Info", bound=Named)


class Catalogue(Generic[Info]):
    """What is known of each network of a kind.

    Args:
        kind: What one is called, in messages: `detector`.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._infos: dict[str, Info] = {}

    def add(self, *infos: Info) -> None:
        """Add networks; one of the same name takes the place of the other."""
        self._infos.update({info.name: info for info in infos})

    def names(self) -> list[str]:
        """Return all names, in their order."""
        return sorted(self._infos)

    def info(self, name: str) -> Info:
        """Return what is known of a network.

        Raises:
            UserError: There is none of that name.
        """
        if name not in self._infos:
            raise UserError(f"unknown {self.kind} {name!r}{did_you_mean(name, self.names())}")
        return self._infos[name]


def refuse_unknown(
    name: str,
    network: Callable[..., nn.Module],
    kwargs: Mapping[str, Any],
    besides: Iterable[str] = (),
    withheld: Iterable[str] = (),
) -> None:
    """Refuse arguments that a network does not have.

    Args:
        name: Of the network, for messages.
        network: Its class.
        kwargs: The arguments that a user gave.
        besides: Arguments that may be given, too.
        withheld: Arguments of the class that may not be given.

    Raises:
        UserError: Naming the first that does not exist, and the nearest that does.
    """
    accepted = {*inspect.signature(network).parameters, *besides} - {*withheld}
    for argument in kwargs:
        if argument not in accepted:
            raise UserError(f"{name} has no argument {argument!r}{did_you_mean(argument, sorted(accepted))}")


def built(name: str, network: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """Build a network.

    Raises:
        UserError: Its arguments do not go together; naming those by keyword.
    """
    try:
        return network(*args, **kwargs)
    except (TypeError, ValueError, RuntimeError) as error:
        arguments = ", ".join(f"{key}={value!r}" for key, value in kwargs.items())
        raise UserError(f"{name} cannot be built with {arguments}: {first_line(error)}") from error
