"""Whether two networks compute the same function, measured where wrong networks cannot hide.

At their initial weights wrong networks pass (zero-initialised norms, tiny layer scales), and so do they in
float32. So every parameter and floating-point buffer is randomised, and outputs, feature maps, gradients and
buffers are compared in float64, in evaluation and in training mode. A wrong network then stands at 1e-6 and
above, a right one that adds in another order at 1e-15.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

TOLERANCE = 1e-10


@dataclass(frozen=True)
class Parity:
    """How far two networks are apart.

    Attributes:
        errors: The relative error of everything that was compared, such as
            "train/gradient/layer1.0.conv1.weight".
        key_differences: What is not the same in their state dicts; nothing else is compared then.
    """

    errors: dict[str, float]
    key_differences: list[str]

    @property
    def worst(self) -> tuple[str, float]:
        """The largest error and where it stands."""
        return max(self.errors.items(), key=lambda item: item[1], default=("nothing was compared", math.inf))

    @property
    def equal(self) -> bool:
        """Whether both are one function."""
        return not self.key_differences and self.worst[1] <= TOLERANCE


def compare(ours_model: nn.Module, theirs_model: nn.Module, images: Tensor, seed: int = 0) -> Parity:
    """Compare two networks with the same random weights on the same images.

    Args:
        ours_model: A network with `feature_info`; it is not changed.
        theirs_model: What it must equal; it is not changed.
        images: (B, C, H, W), at least two positions a channel left at the last BatchNorm.
        seed: Of the weights and of the direction in which gradients are taken.
    """
    differences = state_dict_differences(ours_model, theirs_model)
    if differences:
        return Parity({}, differences)
    ours_model, theirs_model = deepcopy(ours_model).double(), deepcopy(theirs_model).double()
    randomise(theirs_model, seed)
    ours_model.load_state_dict(theirs_model.state_dict(), strict=True)
    theirs_model.load_state_dict(ours_model.state_dict(), strict=True)
    names = [info["module"] for info in ours_model.feature_info]
    errors = {}
    for mode in ("eval", "train"):
        training = mode == "train"
        ours = observe(ours_model.train(training), images.double(), names, seed)
        theirs = observe(theirs_model.train(training), images.double(), names, seed)
        errors |= {f"{mode}/{key}": value for key, value in relative_errors(ours, theirs).items()}
    return Parity(errors, [])


def state_dict_differences(ours_model: nn.Module, theirs_model: nn.Module) -> list[str]:
    """Name the entries whose key, shape, dtype or place differ, ours first."""
    ours, theirs = (
        [f"{key} {tuple(value.shape)} {value.dtype}" for key, value in model.state_dict().items()]
        for model in (ours_model, theirs_model)
    )
    differences = [f"only ours: {entry}" for entry in ours if entry not in set(theirs)]
    differences += [f"only theirs: {entry}" for entry in theirs if entry not in set(ours)]
    return differences or ([] if ours == theirs else ["the order differs"])


def randomise(model: nn.Module, seed: int) -> None:
    """Give every parameter and floating-point buffer a random value that keeps signals at their scale.

    Weights of two and more dimensions are normal with variance 1/fan-in; scales and running variances lie in
    0.5 to 1.5; biases and running means are normal with standard deviation 0.3.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if tensor.ndim > 1:
                tensor.normal_(0.0, tensor[0].numel() ** -0.5, generator=generator)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(0.0, 0.3, generator=generator)
            else:
                tensor.uniform_(0.5, 1.5, generator=generator)


def observe(model: nn.Module, images: Tensor, features: list[str], seed: int) -> dict[str, Tensor]:
    """Run forward and backward; return logits, feature maps, gradients and, afterwards, buffers.

    Args:
        model: In the mode to be observed; its buffers are updated.
        images: (B, C, H, W).
        features: Modules whose outputs are returned.
        seed: Of the direction in logit space whose gradient is taken, and of what the model draws.
    """
    torch.manual_seed(seed)
    model.zero_grad()
    images = images.clone().requires_grad_()
    with recorded(model, features) as maps:
        logits = model(images)
    outputs = logits if isinstance(logits, tuple) else (logits,)  # auxiliary heads answer too while training
    outputs = outputs if model.training else outputs[:1]  # timm's do so in evaluation as well, where nobody asks
    generator = torch.Generator().manual_seed(seed)
    directions = [torch.randn(output.shape, generator=generator, dtype=output.dtype) for output in outputs]
    torch.autograd.backward(outputs, directions)
    observed = {"logits": outputs[0].detach(), "gradient/images": images.grad}
    observed |= {f"auxiliary/{i}": output.detach() for i, output in enumerate(outputs[1:])}
    observed |= {f"feature/{name}": value for name, value in maps.items()}
    observed |= {f"gradient/{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return observed | {f"buffer/{name}": buffer.clone() for name, buffer in model.named_buffers()}


@contextmanager
def recorded(model: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the named modules; they are copied, since the next module may work in place."""
    maps: dict[str, Tensor] = {}

    def recorder(name: str):
        return lambda module, args, output: maps.update({name: output.detach().clone()})

    handles = [model.get_submodule(name).register_forward_hook(recorder(name)) for name in names]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def relative_errors(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, float]:
    """Return the largest deviation of each tensor, relative to the largest entry of its layer in theirs.

    The layer, not the tensor alone: the gradient of a bias in front of a BatchNorm is zero but for rounding,
    and rounding is as large as the layer's other gradients make it.
    """
    scales: dict[str, float] = {}
    for key, tensor in theirs.items():
        scales[_layer(key)] = max(scales.get(_layer(key), 0.0), _largest(tensor))
    missing = dict.fromkeys(ours.keys() ^ theirs.keys(), math.inf)
    return missing | {key: _error(ours[key], theirs[key], scales[_layer(key)]) for key in theirs if key in ours}


def _layer(key: str) -> str:
    return key.rpartition(".")[0] if key.startswith("gradient/") and "." in key else key


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() else 0.0


def _error(ours: Tensor, theirs: Tensor, scale: float) -> float:
    if ours.shape != theirs.shape or not (ours.isfinite().all() and theirs.isfinite().all()):
        return math.inf
    deviation = _largest(ours - theirs)
    return 0.0 if deviation == 0.0 else deviation / scale if scale else math.inf
