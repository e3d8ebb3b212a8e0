"""Weights, gradients and optimiser state divided among the processes: FSDP2 as the strategy `fsdp2` of the Trainer."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from cnnbench.errors import UserError

_ROWS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_LARGE = 1_000_000  # parameters of a single layer that is gathered by itself


class FullyShardedStrategy(ModelParallelStrategy):
    """`--trainer.strategy fsdp2`: each process keeps its part of every tensor, on GPUs or, by gloo, on CPUs.

    Checkpoints are those of one process: a single file of whole tensors, written and read by the run's `CheckpointIO`,
    which one process can evaluate, and from which any strategy can go on.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, **kwargs)

    def setup_environment(self) -> None:
        """Let all processes divide the tensors among them."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Set up, once it is sure that nothing is asked for that would be left undone.

        Raises:
            UserError: The precision or `sync_batchnorm` does not go with it.
        """
        if getattr(self.precision_plugin, "scaler", None) is not None:
            raise UserError("trainer.precision 16-mixed does not go with trainer.strategy fsdp2; bf16-mixed does")
        if self._layer_sync is not None:
            raise UserError("trainer.sync_batchnorm does not go with trainer.strategy fsdp2; it does with ddp")
        super().setup(trainer)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether Lightning hands the optimiser's state over, as it does to other strategies."""
        return True

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint in each process; what it holds is taken over below, when the task has agreed to it."""
        return super(ModelParallelStrategy, self).load_checkpoint(checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take this process's part of the weights."""
        options = StateDictOptions(full_state_dict=True, strict=strict)
        set_model_state_dict(self.model, checkpoint["state_dict"], options=options)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return what the optimiser of one process would keep in the first process, nothing in the others."""
        whole = tree_map_only(DTensor, lambda tensor: tensor.full_tensor().cpu(), optimizer.state_dict())
        return whole if self.is_global_zero else {}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's part of the optimiser's state."""
        for optimizer, whole in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            numbers = (number for group in whole["param_groups"] for number in group["params"])
            parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
            state = {
                number: {key: _part(value, parameter) for key, value in whole["state"][number].items()}
                for number, parameter in zip(numbers, parameters, strict=True)
                if number in whole["state"]
            }
            optimizer.load_state_dict({**whole, "state": state})


StrategyRegistry.register(
    "fsdp2", FullyShardedStrategy, description="Fully sharded data parallel training with torch's fully_shard"
)


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Divide a network's parameters among the processes of a mesh; each of its blocks is gathered when its turn comes.

    Args:
        network: Called as a whole by its forward.
        mesh: One-dimensional.
    """
    network.to(memory_format=torch.contiguous_format)  # FSDP2 takes no other; activations may have another
    for block in blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the modules that a network runs one after another: its deepest blocks, and large layers outside them.

    A block is a module of several that stands in a row of them (a `Sequential`, a list, the network itself) and holds
    no further row of blocks. Whatever is in none of them belongs to the network as a whole.
    """
    found = list(_deepest_blocks(network, in_row=False, is_row=True))
    covered = {module for block in found for module in block.modules()}
    layers = (m for m in network.modules() if m not in covered and type(m) in (nn.Linear, nn.Conv2d))
    return found + [layer for layer in layers if layer.weight.numel() >= _LARGE]


def _deepest_blocks(module: nn.Module, in_row: bool, is_row: bool) -> Iterator[nn.Module]:
    deeper = [
        block for child in module.children() for block in _deepest_blocks(child, is_row, isinstance(child, _ROWS))
    ]
    is_block = in_row and not isinstance(module, _ROWS) and any(True for _ in module.children())
    if not deeper and is_block and any(True for _ in module.parameters()):
        deeper = [module]
    yield from deeper


def whole(value: Tensor) -> Tensor:
    """Return a tensor of which each process may hold a part only, as all of it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def local(value: Tensor) -> Tensor:
    """Return what this process holds of a tensor."""
    return value.to_local() if isinstance(value, DTensor) else value


def _part(value: Any, parameter: Tensor) -> Any:
    """Return this process's part of a value that belongs to a parameter; scalars are everybody's."""
    if not isinstance(value, Tensor) or value.ndim == 0 or not isinstance(parameter, DTensor):
        return value
    same = value.shape == parameter.shape
    placements = parameter.placements if same else [Replicate()] * parameter.device_mesh.ndim
    return distribute_tensor(value, parameter.device_mesh, placements, src_data_rank=None)
