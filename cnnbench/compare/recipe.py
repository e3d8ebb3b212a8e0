"""A recipe of `fit`, read for training duels: the task, the data and the Trainer's settings that it describes."""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, Namespace
from lightning.pytorch import Trainer

from cnnbench.data import ImageDataModule
from cnnbench.errors import UserError, did_you_mean
from cnnbench.tasks import ClassificationTask
from cnnbench.tasks.base import Task
from cnnbench.tasks.recipe.parser import Parser
from cnnbench.tasks.recipe.trainer_settings import check_trainer_settings


@dataclass(frozen=True)
class Recipe:
    """A recipe as `fit --config` takes it, the config.yaml of a former run too.

    Attributes:
        path: The file.
        settings: All settings, those too that the file does not name.
    """

    path: Path
    settings: Namespace

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """Read a recipe.

        Raises:
            UserError: There is no such file, something is wrong in it, or it is not one of classification.
        """
        if not path.is_file():
            near = [str(file) for file in path.parent.glob("*.yaml")]
            raise UserError(f"no recipe at {path}{did_you_mean(str(path), near)}")
        parser = _parser()
        settings = parser.parse_args(["--config", str(path)])
        parser.check_top_level(yaml.safe_load(path.read_text(encoding="utf-8")))
        parser.check_values(settings)
        check_trainer_settings(settings.trainer, settings.seed_everything)
        if settings.ckpt_path is not None:
            raise UserError(f"{path} goes on from a checkpoint, {settings.ckpt_path}: a duel trains from the beginning")
        return cls(path, settings)

    def instantiate(self) -> tuple[ClassificationTask, ImageDataModule, dict[str, Any]]:
        """Return task, data module and the Trainer's arguments, new ones at each call.

        Raises:
            UserError: The task is not classification, or one of the three refuses what the recipe says.
        """
        made = _parser().instantiate(self.settings)
        if not isinstance(made.model, ClassificationTask):
            raise UserError(f"{self.path} trains {type(made.model).__name__}: a duel needs a ClassificationTask")
        return made.model, made.data, vars(made.trainer)

    def with_model(self, **arguments: Any) -> "Recipe":
        """Return the recipe with other arguments of its task, such as `name` and `source`."""
        settings = self.settings.clone()
        settings.model.init_args.update(Namespace(**arguments))
        return Recipe(self.path, settings)

    @property
    def model(self) -> Namespace:
        """The arguments of its task."""
        return self.settings.model.init_args

    @cached_property
    def text(self) -> str:
        """All settings as YAML that `fit` accepts."""
        return _parser().dump(self.settings, skip_unset=False)


@cache
def _parser() -> Parser:
    """Return what parses the options of `fit` without its command line."""
    parser = Parser()
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--seed_everything", type=bool | int, default=0)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(Task, "model", subclass_mode=True)
    parser.add_lightning_class_args(ImageDataModule, "data", subclass_mode=True)
    skipped = {"model", "train_dataloaders", "val_dataloaders", "datamodule"}
    parser.add_method_arguments(Trainer, "fit", skip=skipped)
    parser.add_run_options()
    return parser
