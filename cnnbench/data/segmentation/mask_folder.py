"""Images of one's own, and a mask for each."""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from cnnbench.data import checks
from cnnbench.data.file_index import find_images
from cnnbench.data.files import cores
from cnnbench.data.segmentation.augment import SegmentationAugmentation
from cnnbench.data.segmentation.base import IGNORED
from cnnbench.data.segmentation.files import VARIED, MaskFilesDataModule, Pairs
from cnnbench.data.segmentation.mask_files import look_at
from cnnbench.errors import UserError

_NAMED = 10  # mismatches that a message has at most


class MaskFolderDataModule(MaskFilesDataModule):
    """`root/train/{images,masks}/*`, `root/val/…` and, if there is one, `root/test/…`; or `root/{images,masks}/*`.

    A mask is called as its image, whatever the ending: `images/a/1.jpg` has `masks/a/1.png`. It has the image's size,
    and one class id a pixel, from 0 in the order of `class_names`, or 255 where a pixel does not count; a palette is
    only for looking at it. All pairs are checked before anything is trained.

    Args:
        root: Folder of the data.
        class_names: Names of the classes, in the order of the ids in the masks.
        val_fraction: Part of the training images to validate on, always the same, where there is no `val` folder.
        mask_suffix: What the name of a mask has beyond that of its image, such as `_mask`.
        predict_root: Images to predict, any below this folder; None: those of `test`, else of `val`, and where there
            are no masks, all below `root`.
        batch_size: Images a process and step.
        image_size: Height and width of the part of a training image that is taken.
        resize: Pixels that the shorter side is brought to before all else, in evaluation too; None: as it is.
        num_workers: Processes that decode images; None: one a processor core, at most 8.
        in_chans: 3 for RGB images, 1 for grey.
        augmentation: How training images vary; by default a flip, and half to twice the size.
        mean: Of pixels in 0..1; None: the model's, else ImageNet's.
        std: The same.
        decoder: `auto` is the fastest that is installed, of simplejpeg, torchvision and pil.
    """

    def __init__(
        self,
        root: str = "data/masks",
        class_names: tuple[str, ...] | None = None,
        val_fraction: float | None = None,
        mask_suffix: str = "",
        predict_root: str | None = None,
        batch_size: int = 8,
        image_size: int = 512,
        resize: int | None = None,
        num_workers: int | None = None,
        in_chans: int = 3,
        augmentation: SegmentationAugmentation = VARIED,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        decoder: str = "auto",
    ) -> None:
        super().__init__(
            *(root, predict_root, batch_size, image_size, resize, num_workers, in_chans, augmentation, mean, std),
            decoder,
        )
        if not class_names or len(class_names) > 255:
            raise UserError(f"class_names are {len(class_names or ())}: name each class, 255 of them at most")
        checks.distinct("class_names", class_names)
        if val_fraction is not None and not 0 < val_fraction < 1:
            raise UserError(f"val_fraction is {val_fraction}: it must be above 0 and below 1")
        self.class_names = tuple(class_names)
        self.val_fraction = val_fraction
        self.mask_suffix = mask_suffix
        self._checked: dict[Path, Pairs] = {}

    @property
    def has_test(self) -> bool:
        """Whether there are test images."""
        return (self.root / "test/masks").is_dir()

    def read(self, split: str) -> Pairs:
        """Find the images and masks of a split, and check that they belong together."""
        folder = self.root / split
        if split == "test" or (folder / "masks").is_dir():
            return self._pairs(folder)
        whole = self.root / "train" if (self.root / "train/masks").is_dir() else self.root
        if self.val_fraction is None:
            raise UserError(f"no {folder / 'masks'}: add it, or set val_fraction, the part of {whole} to validate on")
        return self._pairs(whole).held_out(self.val_fraction)[split == "val"]

    def _pairs(self, folder: Path) -> Pairs:
        """Return the images and masks of a folder, which are looked at once."""
        if folder not in self._checked:
            self._checked[folder] = self._find_pairs(folder)
        return self._checked[folder]

    def _find_pairs(self, folder: Path) -> Pairs:
        for name in ("images", "masks"):
            if not (folder / name).is_dir():
                raise UserError(f"no {folder / name}: a folder of data has images and masks")
        images, masks = (_by_name(folder / name) for name in ("images", "masks"))
        wanted = {f"{name}{self.mask_suffix}": path for name, path in images.items()}
        lonely = [f"{path} has no mask" for name, path in wanted.items() if name not in masks]
        lonely += [f"{path} has no image" for name, path in masks.items() if name not in wanted]
        _refuse(folder, lonely, _suffix_hint(images, masks))
        pairs = Pairs(list(wanted.values()), [masks[name] for name in wanted])
        with ThreadPoolExecutor(cores()) as pool:
            found = list(pool.map(look_at, pairs.files, pairs.masks, repeat(self.class_of_id)))
        _refuse(folder, [problem for problem, _ in found if problem])
        if frozenset().union(*(classes for _, classes in found)) == {0, IGNORED} and self.num_classes > 1:
            raise UserError(
                f"{folder / 'masks'}: no pixel is of another class than {self.class_names[0]}, and {IGNORED} is for "
                f"pixels that do not count; if it is {self.class_names[1]} here, write 1: (np.asarray(mask) > 0) * 1"
            )
        return pairs

    def images_to_predict(self) -> Pairs:
        """Return the images below `predict_root`, else those of `test` or `val`; without masks, all below `root`."""
        has_masks = any((self.root / folder / "masks").is_dir() for folder in ("", "train", "val", "test"))
        if self.predict_root is None and not has_masks:
            if not self.root.is_dir():
                raise UserError(f"nothing to predict: {self.root} is not a folder")
            return self.without_annotations(self.root)
        return super().images_to_predict()


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the images below a folder by their paths in it, without ending."""
    found: dict[str, Path] = {}
    for path in find_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise UserError(f"{found[name]} and {path} have one name")
        found[name] = path
    return found


def _suffix_hint(images: Collection[str], masks: Collection[str]) -> str:
    """Return what to set if all masks are called as their images, but for one and the same ending."""
    first = next(iter(images), "")
    endings = (mask.removeprefix(first) for mask in masks if mask.startswith(first))
    ending = next((ending for ending in endings if {f"{image}{ending}" for image in images} == {*masks}), None)
    return f"; set mask_suffix to {ending}" if images and ending else ""


def _refuse(folder: Path, problems: Sequence[str], hint: str = "") -> None:
    if problems:
        more = [f"and {len(problems) - _NAMED:,} more"] if len(problems) > _NAMED else []
        raise UserError(f"{folder}: {'; '.join([*problems[:_NAMED], *more])}{hint}")
