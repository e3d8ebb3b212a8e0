"""What every task shares: a network by name, its optimisation, seeds, checkpoints that know what they hold."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from timm.layers import to_2tuple
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from cnnbench.errors import UserError
from cnnbench.models import check_input_size, create_model, has_published_weights, pretrained_cfg
from cnnbench.tasks.checkpoints import Recorded
from cnnbench.tasks.optim import OptimConfig
from cnnbench.tasks.optimization import Optimized
from cnnbench.tasks.sharding import FullyShardedStrategy, shard


class Task(Optimized, Recorded, ABC):
    """A network by name and source, trained by one `optim` block.

    A subclass sets `monitor`, `monitor_mode` and `epoch_figures`, writes the steps, and prepares its losses and metrics
    in `configure_head`.

    Attributes:
        create_network: Builds it, called with `pretrained`, `weights`, `num_classes`, `in_chans` and `model_args`, and
            where there are `weights` with `class_names`; set another before training to train a network that has no
            name.
        epoch_figures: What the line of an epoch shows, of all that is logged.
        continues: The commands set it where a checkpoint is about to give the weights: no others are read then.

    Args:
        name: Name of the model, as `python -m cnnbench models` lists them.
        source: Who wrote the network: `cnnbench` (ours), `timm` or `torchvision`.
        pretrained: Start from the published weights.
        weights: Start from the weights in this file instead, `.safetensors`, `.pth` or a run's checkpoint; a
            classifier for other classes starts anew.
        num_classes: Number of classes; None: the data module tells.
        in_chans: Channels of the images; None: the data module tells.
        model_args: Further arguments of the model, such as `{drop_path_rate: 0.1}`.
        optim: Optimiser and schedule; None: AdamW with cosine decay.
        compile: Compile the network with `torch.compile`.
        channels_last: Keep weights and images in channels-last memory format.
        hparams: What the subclass takes beyond this, to be kept with checkpoints.

    Raises:
        UserError: The model, its source, or one of its arguments does not exist.
    """

    monitor = "val/loss"
    monitor_mode = "min"
    epoch_figures: tuple[str, ...] = ("train/loss", "val/loss")
    continues = False

    def __init__(
        self,
        name: str,
        source: str = "cnnbench",
        pretrained: bool = False,
        weights: str | None = None,
        num_classes: int | None = None,
        in_chans: int | None = None,
        model_args: dict[str, Any] | None = None,
        optim: OptimConfig | None = None,
        compile: bool = False,
        channels_last: bool = False,
        **hparams: Any,
    ) -> None:
        super().__init__()
        self.network = None
        self.optim = OptimConfig.of(optim)
        hparams |= {"name": name, "source": source, "model_args": dict(model_args or {})}
        hparams |= {"pretrained": pretrained, "weights": weights}
        hparams |= {"num_classes": num_classes, "in_chans": in_chans, "optim": vars(self.optim).copy()}
        self.save_hyperparameters({**hparams, "compile": compile, "channels_last": channels_last}, logger=False)
        self.pretrained_cfg = self.published_cfg()
        self.create_network: Callable[..., nn.Module] = self.network_builder()
        if num_classes is not None and in_chans is not None:
            self._build_network()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; Lightning notes the running hook in one, at each hook, where a module's way is slow."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the network on normalised images (B, C, H, W)."""
        if self.hparams.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.network(images)

    @property
    def title(self) -> str:
        """What is trained, and who wrote it."""
        return f"{self.hparams.name} ({self.hparams.source})"

    @property
    def _class_names(self) -> list[str]:
        return list(getattr(self._data, "class_names", map(str, range(self.hparams.num_classes))))

    def running_figures(self) -> dict[str, Tensor]:
        """Return what the live bar shows of the running epoch beside the loss, by name; read a few times a second."""
        return {}

    # ------------------------------------------------------------------ building

    def network_builder(self) -> Callable[..., nn.Module]:
        """Return what builds the network of these hyperparameters, a classifier's unless a subclass has others."""
        return partial(create_model, self.hparams.name, source=self.hparams.source)

    def published_cfg(self) -> dict[str, Any]:
        """Return the input size, mean, std, interpolation and crop that the network or its backbone was published with.

        Raises:
            UserError: There is no such network.
        """
        return pretrained_cfg(self.hparams.name, self.hparams.source)

    @property
    def published_weights(self) -> str | None:
        """The setting that starts from published weights, None where there are none."""
        setting = "pretrained_backbone" if "pretrained_backbone" in self.hparams else "pretrained"
        return setting if has_published_weights(self.pretrained_cfg) else None

    @property
    def has_checkpoint(self) -> bool:
        """Whether the weights are about to come from a checkpoint."""
        return self.continues or (self._trainer is not None and bool(self.trainer.ckpt_path))

    def compiled_parts(self) -> list[nn.Module]:
        """Return what `compile` compiles: the network, which is built."""
        return [self.network]

    def check_data(self, data: LightningDataModule) -> None:
        """Refuse data that the network, which is built, cannot take."""
        check_input_size(self.network, self.hparams.in_chans, to_2tuple(data.image_size))

    @abstractmethod
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""

    def configure_head(self, num_classes: int) -> None:
        """Prepare what depends on the number of classes: losses and metrics."""

    def configure_model(self) -> None:
        """Build the network for the data; Lightning calls this before each run, it builds once."""
        data = self._data
        if data is not None:
            self._take_from_data("num_classes", data)
            self._take_from_data("in_chans", data)
        if self.network is None:
            self._build_network()
        if data is not None:
            self.check_data(data)
        self._own_norms = _norms_with_a_forward_of_their_own(self.network)
        if self.device_mesh is not None:
            self._shard()
        if self.hparams.compile:
            for part in self.compiled_parts():
                if part._compiled_call_impl is None:
                    part.compile()  # in place: the keys of the state dict stay as they are

    def _shard(self) -> None:
        strategy = self.trainer.strategy
        if not isinstance(strategy, FullyShardedStrategy):
            raise UserError(f"trainer.strategy is {type(strategy).__name__}; what divides a network here is fsdp2")
        if self.optim.clip_grad is not None and self.optim.clip_mode == "agc":  # of norms over parts of a weight
            raise UserError("optim.clip_mode agc does not go with trainer.strategy fsdp2; norm and value do")
        if not isinstance(self.network, FSDPModule):
            shard(self.network, self.device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Refuse a network that `sync_batchnorm` has made another: torch replaces what only derives from BatchNorm.

        Raises:
            UserError: It has norms that do more than normalise.
        """
        if any(isinstance(self.network.get_submodule(name), nn.SyncBatchNorm) for name in self._own_norms):
            raise UserError(f"trainer.sync_batchnorm is not for {self.hparams.name}: its norms hold the ReLUs too")

    def _take_from_data(self, key: str, data: LightningDataModule) -> None:
        ours, theirs = self.hparams[key], getattr(data, key)
        if ours is not None and ours != theirs:
            raise UserError(
                f"{key} {ours} of the model contradicts {type(data).__name__}, which has {theirs}; "
                f"leave model.{key} out: the data tells it"
            )
        self.hparams[key] = theirs

    def _build_network(self) -> None:
        hparams = self.hparams
        if hparams.num_classes is None or hparams.in_chans is None:
            raise UserError(f"{hparams.name}: give num_classes and in_chans, or a data module that tells them")
        weights = None if self.has_checkpoint else hparams.weights
        of_classes = {"class_names": getattr(self._data, "class_names", None)} if weights else {}
        self.network = self.create_network(
            pretrained=hparams.pretrained and not self.has_checkpoint,
            weights=weights,
            num_classes=hparams.num_classes,
            in_chans=hparams.in_chans,
            **of_classes,
            **hparams.model_args,
        )
        if hparams.channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.configure_head(hparams.num_classes)


def _norms_with_a_forward_of_their_own(network: nn.Module) -> list[str]:
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    norms = ((name, m) for name, m in network.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [name for name, norm in norms if type(norm) not in plain]
