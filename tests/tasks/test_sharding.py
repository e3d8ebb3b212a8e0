"""Networks divided among processes: here one, which has all, so that a block that is not gathered in time is found."""

import pytest
import timm
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import distributed, nn
from torch.distributed.tensor import DTensor

from cnnbench.errors import UserError
from cnnbench.models import create_model
from cnnbench.tasks import ClassificationTask, OptimConfig
from cnnbench.tasks.sharding import FullyShardedStrategy, blocks, shard, whole

# the smallest of each way to build a network: rows of blocks, rows within rows, dictionaries of blocks, attributes
NETWORKS = [
    ("lenet5", 32),
    ("googlenet", 64),
    ("resnet18", 32),
    ("densenet121", 32),
    ("mobilenetv2_050", 32),
    ("efficientnet_b0", 32),
    ("regnetx_002", 32),
    ("convnext_tiny", 32),
    ("vit_tiny_patch16_224", 224),
]


@pytest.fixture(scope="module")
def mesh():
    """A mesh of this process alone; the group goes with it."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield distributed.init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def step(network, images):
    """Return the loss of a step and the gradient of each parameter."""
    torch.manual_seed(0)
    outputs = network(images)
    loss = sum(output.square().mean() for output in (outputs if isinstance(outputs, tuple) else (outputs,)))
    loss.backward()
    return loss.detach(), {name: whole(p.grad) for name, p in network.named_parameters() if p.grad is not None}


def assert_same_step(build, mesh, image_size, channels):
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(build().train())
    alone, divided = networks
    shard(divided, mesh)
    assert all(isinstance(parameter, DTensor) for parameter in divided.parameters())
    images = torch.rand(2, channels, image_size, image_size)
    (loss, gradients), (shared_loss, shared_gradients) = step(alone, images), step(divided, images)
    torch.testing.assert_close(shared_loss, loss)
    assert gradients.keys() == shared_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(shared_gradients[name], gradient, msg=name)


@pytest.mark.parametrize(("name", "image_size"), NETWORKS)
def test_a_divided_network_takes_the_same_step(name, image_size, mesh):
    channels = 1 if name == "lenet5" else 3
    assert_same_step(lambda: create_model(name, num_classes=10, in_chans=channels), mesh, image_size, channels)


@pytest.mark.parametrize(
    ("name", "image_size"), [("swin_tiny_patch4_window7_224", 224), ("mobilevitv2_050", 64), ("hrnet_w18_small", 64)]
)
def test_so_does_one_of_timms_that_is_not_written_here(name, image_size, mesh):
    assert_same_step(lambda: timm.create_model(name, num_classes=10), mesh, image_size, 3)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("resnet50", {"Bottleneck": 16, "Linear": 1}),
        ("vgg16", {"Conv2d": 6, "ConvMlp": 1, "PooledHead": 1}),
        ("vit_base_patch16_224", {"Block": 12}),
    ],
)
def test_blocks_are_those_of_the_paper(name, kinds):
    with torch.device("meta"):
        network = create_model(name)
    found = blocks(network)
    names = [type(block).__name__ for block in found]
    assert all(names.count(kind) >= count for kind, count in kinds.items()), names
    parameters = [id(parameter) for block in found for parameter in block.parameters()]
    assert len(parameters) == len(set(parameters))


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("precision_plugin", MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu")), "bf16-mixed"),
        ("_layer_sync", TorchSyncBatchNorm(), "trainer.sync_batchnorm"),
    ],
)
def test_what_it_would_leave_undone_is_refused(attribute, value, message):
    strategy = FullyShardedStrategy()
    setattr(strategy, attribute, value)
    with pytest.raises(UserError, match=message):
        strategy.setup(trainer=None)


@pytest.mark.parametrize(
    ("strategy", "optim", "message"),
    [
        (FullyShardedStrategy(), OptimConfig(clip_grad=0.01, clip_mode="agc"), "optim.clip_mode agc .* fsdp2"),
        (ModelParallelStrategy(), None, "trainer.strategy is ModelParallelStrategy.* fsdp2"),
    ],
)
def test_a_task_refuses_what_cannot_be_divided(strategy, optim, message):
    task = ClassificationTask("lenet5", num_classes=10, in_chans=1, optim=optim)
    task.trainer = Trainer(strategy=strategy, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    with pytest.raises(UserError, match=message):
        task._shard()


def test_a_row_within_a_block_is_gathered_block_by_block():
    class Stage(nn.Module):
        def __init__(self, deep):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)
            self.blocks = (
                nn.Sequential(*(Stage(deep - 1) for _ in range(2))) if deep else nn.Sequential(nn.Conv2d(1, 1, 1))
            )

    network = nn.Sequential(Stage(1), Stage(0))
    assert blocks(network) == [*network[0].blocks, network[1]]
