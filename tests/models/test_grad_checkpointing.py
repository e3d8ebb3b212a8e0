"""Activations computed again in the backward pass: the same gradients, for less memory."""

import pytest
import torch
from contract import arguments_of, create, every_architecture
from families import images_for
from torch import nn

import cnnbench.models as models
from cnnbench.layers import Branches, Stage


@every_architecture
def test_grad_checkpointing_gives_the_same_gradients(name):
    kwargs = {"drop_path_rate": 0.5} if "drop_path_rate" in arguments_of(name) else {}
    model = create(name, num_classes=5, **kwargs)
    plain, checkpointed = (gradients(model, images_for(name, 2), enable) for enable in (False, True))
    torch.testing.assert_close(plain, checkpointed, rtol=0, atol=0)


def test_grad_checkpointing_recomputes():
    calls = []
    model = models.create_model("resnet18", num_classes=5)
    model.layer2[1].conv1.register_forward_hook(lambda *args: calls.append(1))
    gradients(model, images_for("resnet18", 2), enable=False)
    gradients(model, images_for("resnet18", 2), enable=True)
    assert len(calls) == 1 + 2


@every_architecture
def test_grad_checkpointing_keeps_less(name):
    model = create(name, num_classes=5)
    if not any(isinstance(module, Stage | Branches) for module in model.modules()):
        pytest.skip("no row of blocks to compute again")
    kept = [kept_bytes(model, images_for(name, 2), enable) for enable in (False, True)]
    assert kept[1] < kept[0]


def kept_bytes(model: nn.Module, images: torch.Tensor, enable: bool) -> int:
    """The memory that the forward pass keeps for the backward pass, parameters among it."""
    model.set_grad_checkpointing(enable)
    kept: dict[int, int] = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        output = model(images)
    del output
    return sum(kept.values())


def gradients(model: nn.Module, images: torch.Tensor, enable: bool) -> list[torch.Tensor]:
    model.set_grad_checkpointing(enable)
    model.zero_grad()
    torch.manual_seed(0)
    model(images).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]
