"""The two networks of a training duel: built for the recipe's data, with the same initial weights."""

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

from cnnbench.compare.recipe import Recipe
from cnnbench.compare.sides import Side
from cnnbench.data import ImageDataModule
from cnnbench.errors import UserError, first_line
from cnnbench.models import check_input_size

Exchange = Callable[[nn.Module, nn.Module], None]
"""Copies the weights of its first network, ours, into its second, theirs."""


def load_same_keys(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy the weights of `ours` into `theirs`, which has the same keys.

    Raises:
        UserError: The keys or the shapes differ.
    """
    mine, others = ({(key, tuple(v.shape)) for key, v in side.state_dict().items()} for side in (ours, theirs))
    if differing := sorted(mine ^ others):
        key, shape = differing[0]
        raise UserError(f"the weights do not fit both networks: {key} {shape} is in one only, {len(differing)} in all")
    theirs.load_state_dict(ours.state_dict(), strict=True)


class TrainingPair:
    """Builds either network of a duel anew for each run.

    The recipe's `model_args` go to both sides, or to neither where one does not take them; classes and channels are
    those of the data, where a network lets them be set.

    Args:
        ours: One side, which is initialised, or starts from the `weights` or `pretrained` of the recipe.
        theirs: The other, which takes over the weights of the first.
        recipe: With the model's arguments.
        exchange: How it takes them over.

    Attributes:
        recipe: With the name, source and arguments of these networks in place of its own.
        left_out: Arguments of the recipe that are left out -> the label of the side that does not take them.

    Raises:
        UserError: A network cannot be built, or does not take or tell apart what is in the data.
    """

    def __init__(self, ours: Side, theirs: Side, recipe: Recipe, exchange: Exchange) -> None:
        self._ours, self._theirs, self._exchange = ours, theirs, exchange
        model_args = dict(recipe.model.model_args or {})
        self.left_out = _not_shared(ours, theirs, model_args)
        shared = {name: value for name, value in model_args.items() if name not in self.left_out}
        self.recipe = recipe.with_model(**_named(ours, theirs), model_args=shared)
        _, data, _ = self.recipe.instantiate()
        data.prepare_data()
        data.setup("fit")
        self._arguments = {**shared, "num_classes": data.num_classes, "in_chans": data.in_chans}
        self._start = _start(ours, recipe)
        if "weights" in self._start and ours.model is not None:
            self._start["class_names"] = data.class_names
        for side, network in ((ours, self.build_ours()), (theirs, self.build_theirs())):
            _check_fits(side.label, network, data)

    def build_ours(self) -> nn.Module:
        """Build our network; one seed of torch gives the same initial weights each time."""
        return self._ours.build(**self._arguments, **self._start)

    def build_theirs(self) -> nn.Module:
        """Build theirs with the initial weights of ours."""
        ours, theirs = self.build_ours(), self._theirs.build(**self._arguments)
        self._exchange(ours, theirs)
        return theirs.train()


def _not_shared(ours: Side, theirs: Side, model_args: dict[str, Any]) -> dict[str, str]:
    refused = [(side.label, _refused(side, model_args)) for side in (ours, theirs)]
    for name in sorted(set.intersection(*(names for _, names in refused))):
        ours.build(**{name: model_args[name]})  # raises where the recipe is wrong: a model by name knows its own
    return {name: label for label, names in refused for name in sorted(names)}


def _refused(side: Side, model_args: dict[str, Any]) -> set[str]:
    unknown = {name for name in model_args if not side.takes(name)}
    if side.model is None or not model_args or _builds(side, model_args):
        return unknown
    return {name for name, value in model_args.items() if not _builds(side, {name: value})}


def _builds(side: Side, arguments: dict[str, Any]) -> bool:
    try:
        side.build(**arguments)
    except UserError:
        return False
    return True


def _named(ours: Side, theirs: Side) -> dict[str, str]:
    """Return name and source for the task, which both sides share: of the first that has one."""
    models = [side.model for side in (ours, theirs) if side.model is not None]
    return dict(zip(("name", "source"), models[0], strict=True)) if models else {}


def _start(ours: Side, recipe: Recipe) -> dict[str, Any]:
    start = {name: recipe.model[name] for name in ("pretrained", "weights") if recipe.model[name]}
    for name in start:
        if not ours.takes(name):
            raise UserError(f"{recipe.path} sets model.{name}, which {ours.label} does not take: leave it out")
    return start


def _check_fits(label: str, network: nn.Module, data: ImageDataModule) -> None:
    """Refuse a network that cannot take the images, or does not tell their classes apart."""
    height, width = to_2tuple(data.image_size)
    check_input_size(network, data.in_chans, (height, width))
    images = torch.zeros(2, data.in_chans, height, width)
    try:
        with torch.no_grad():
            logits = network.eval()(images)
    except Exception as error:  # whatever a user's own network raises
        size = f"{data.in_chans}x{height}x{width}"
        raise UserError(f"{label} fails on images of {size}: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(logits, Tensor):
        raise UserError(f"{label} returns {type(logits).__name__}, where a training duel needs a tensor of logits")
    if logits.shape != (2, data.num_classes):
        given = "x".join(map(str, logits.shape[1:]))
        raise UserError(
            f"{label} puts out {given} numbers an image, but {type(data).__name__} has {data.num_classes} classes"
        )
