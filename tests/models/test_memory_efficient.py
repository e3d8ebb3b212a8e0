"""DenseNet's memory-efficient mode: the same gradients from fewer bytes kept for the backward pass."""

import pytest
import torch
from torch import Tensor, nn

import cnnbench.models as models

KWARGS = {"growth_rate": 8, "num_classes": 5}


def gradients_and_bytes(source: str, depth: int = 24, switch: bool = False, **kwargs) -> tuple[list[Tensor], int]:
    torch.manual_seed(0)
    model = models.create_model("densenet121", source=source, block_config=(depth,), **KWARGS, **kwargs)
    if switch:
        model.set_grad_checkpointing()
    logits, kept = forward_counting_bytes(model, torch.randn(2, 3, 64, 64))
    logits.square().sum().backward()
    return [parameter.grad for parameter in model.parameters()], kept


def forward_counting_bytes(model: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """Return the output, and the bytes that the forward pass leaves behind for the backward pass."""
    kept: dict[int, tuple[Tensor, int]] = {}  # with the tensors, so that no address is given out twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(x)
    return output, sum(size for _, size in kept.values())


@pytest.mark.parametrize("how", [{"memory_efficient": True}, {"switch": True}], ids=str)
def test_same_gradients_from_fewer_bytes(how):
    plain, plain_bytes = gradients_and_bytes("cnnbench")
    efficient, efficient_bytes = gradients_and_bytes("cnnbench", **how)
    torch.testing.assert_close(efficient, plain, rtol=0, atol=0)
    assert efficient_bytes < plain_bytes / 2


def test_what_a_block_keeps_grows_linearly():
    kept = {depth: gradients_and_bytes("cnnbench", depth, memory_efficient=True)[1] for depth in (4, 8, 16, 32)}
    growth = [(kept[2 * depth] - kept[depth]) / depth for depth in (4, 8, 16)]
    assert max(growth) < 1.1 * min(growth)


@pytest.mark.parametrize("memory_efficient", [False, True])
def test_no_more_than_the_reference_keeps(memory_efficient):
    ours, theirs = (
        gradients_and_bytes(source, memory_efficient=memory_efficient)[1] for source in ("cnnbench", "timm")
    )
    assert ours <= theirs
