"""Ways to spoil a network without touching its state dict."""

from collections.abc import Callable

from torch import Tensor, nn


def change(path: str, **attributes) -> Callable[[nn.Module], None]:
    """Set attributes of a module."""

    def plant(model: nn.Module) -> None:
        for name, value in attributes.items():
            assert getattr(model.get_submodule(path), name) != value
            setattr(model.get_submodule(path), name, value)

    return plant


def replace(path: str, new: Callable[[], nn.Module]) -> Callable[[nn.Module], None]:
    """Put another module in the place of one without weights."""
    return lambda model: model.set_submodule(path, new())


def after(path: str, function: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Callable[[nn.Module], None]:
    """Apply a function of (module, input, output) to a module's output."""

    def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return function(module, args[0], output)

    return lambda model: model.get_submodule(path).register_forward_hook(hook)


def move_stride(source: str, target: str) -> Callable[[nn.Module], None]:
    """Let one convolution stride in another's place."""

    def plant(model: nn.Module) -> None:
        model.get_submodule(source).stride, model.get_submodule(target).stride = (1, 1), (2, 2)

    return plant


def lost_bias(path: str) -> Callable[[nn.Module], None]:
    """Take away what a convolution's or a linear layer's bias adds."""

    def without(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return y - (module.bias if isinstance(module, nn.Linear) else module.bias.reshape(-1, 1, 1))

    return after(path, without)
