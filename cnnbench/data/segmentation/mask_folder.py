"""Images of one's own, and a mask for each."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from cnnbench.data import checks
from cnnbench.data.file_index import find_images
from cnnbench.data.files import cores
from cnnbench.data.image_files import ImageFileError
from cnnbench.data.segmentation.augment import SegmentationAugmentation
from cnnbench.data.segmentation.base import IGNORED
from cnnbench.data.segmentation.files import VARIED, MaskFilesDataModule, Pairs
from cnnbench.data.segmentation.mask_files import UnknownIdsError, look_at
from cnnbench.data.segmentation.mismatches import Mismatch, told
from cnnbench.errors import UserError


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
        predict_root: Images to predict, any below this folder; None: those of `test`, else of `val` or the part held
            out, else of `root/images`, and where there are no masks, all below `root`.
        batch_size: Images a process and step.
        image_size: Height and width of the part of a training image that is taken.
        resize: Pixels that the shorter side is brought to before all else, in evaluation too; None: as it is.
        num_workers: Processes that decode images; None: one a processor core, at most 8.
        in_chans: 3 for RGB images, 1 for grey.
        augmentation: How training images vary; by default a flip, and half to twice the size.
        mean: Of pixels in 0..1; None: the model's, else ImageNet's.
        std: The same.
        decoder: `auto` is the fastest that is installed, of simplejpeg, torchvision and pil.
        on_error: What to do with a file that is not a whole image: `raise`, or `skip` it; what was skipped is counted
            and listed at the end.
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
        on_error: str = "raise",
    ) -> None:
        super().__init__(
            *(root, predict_root, batch_size, image_size, resize, num_workers, in_chans, augmentation, mean, std),
            *(decoder, on_error),
        )
        if not class_names:
            like = "such as --data.class_names '[background, road, tree]'"
            raise UserError(f"class_names is missing: name the classes in the order of the ids in the masks, {like}")
        if len(class_names) > IGNORED:
            raise UserError(f"class_names has {len(class_names)} names: there are {IGNORED} at most")
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
        whole = self.root / "train" if (self.root / "train/images").is_dir() else self.root
        if self.val_fraction is not None:
            return self._pairs(whole).held_out(self.val_fraction)[split == "val"]
        if self._has_images(split) or (split == "train" and self._has_images("val")):
            return self._pairs(folder)  # which says what it lacks
        raise UserError(self._nothing_to_validate_on(whole))

    def _nothing_to_validate_on(self, whole: Path) -> str:
        if not (whole / "images").is_dir():
            return f"no {self.root / 'images'} or {self.root / 'train/images'}: a folder of data has images and masks"
        wanted = self.root / "val" if whole != self.root else f"{self.root / 'train'} and {self.root / 'val'}"
        fraction = f"set val_fraction, the part of {whole / 'images'} to hold out"
        return f"{self.root} has nothing to validate on: {fraction}, or make {wanted} with images and masks"

    def _has_images(self, part: str) -> bool:
        return (self.root / part / "images").is_dir()

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
        if wanted.keys() != masks.keys():
            raise UserError(told(_lonely(folder, wanted, masks)) + _suffix_hint(images, masks))
        return self._looked_at(Pairs(list(wanted.values()), [masks[name] for name in wanted], folder / "images"))

    def _looked_at(self, pairs: Pairs) -> Pairs:
        """Return the pairs without those that are to be skipped, and refuse what does not fit."""
        with ThreadPoolExecutor(cores()) as pool:
            found = list(pool.map(look_at, pairs.files, pairs.masks, repeat(self.class_of_id)))
        errors = {place: error for place, (error, _) in enumerate(found) if error is not None}
        skipped = {place: error for place, error in errors.items() if self._is_skipped(error)}
        if len(skipped) == len(found) or len(skipped) < len(errors):
            refused = errors if len(skipped) == len(found) else errors.keys() - skipped.keys()
            raise UserError(told(_mismatch(pairs, place, errors[place]) for place in sorted(refused)))
        if self._processes()[1] == 0:
            self._skipped |= {pairs.files[place]: str(error) for place, error in skipped.items()}
        self._check_classes(pairs.masks, frozenset().union(*(classes for _, classes in found)))
        return pairs.subset([place for place in range(len(found)) if place not in skipped])

    def _is_skipped(self, error: ImageFileError) -> bool:
        return self.on_error == "skip" and type(error) is ImageFileError  # others are whole, and do not fit

    def _check_classes(self, masks: Sequence[Path], classes: frozenset[int]) -> None:
        if classes == {0, IGNORED} and self.num_classes > 1:
            raise UserError(
                f"{masks[0].parent}: no pixel is of another class than {self.class_names[0]}, and {IGNORED} is for "
                f"pixels that do not count; if it is {self.class_names[1]} here, write 1: (np.asarray(mask) > 0) * 1"
            )

    def images_to_predict(self) -> Pairs:
        """Return the images to predict, as `predict_root` has it; what `val_fraction` holds out needs its masks."""
        parts = ("", "train", "val", "test")
        if self.predict_root is not None:
            return super().images_to_predict()
        if not self.root.is_dir():
            raise UserError(f"nothing to predict: {self.root} is not a folder")
        if not any((self.root / part / "masks").is_dir() for part in parts):
            return self.without_annotations(self.root)
        part = next(filter(self._has_images, ("test", "val")), None)
        if part is None and self.val_fraction is not None:
            return self._not_empty("val")
        if part is not None or self._has_images(""):
            return self.without_annotations(self.root / (part or "") / "images")
        raise UserError(
            f"nothing to predict: no images in {self.root / 'test'}, {self.root / 'val'} or {self.root}; set "
            f"predict_root to a folder of images, such as {self.root / 'train/images'}"
        )


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


def _lonely(folder: Path, images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[Mismatch]:
    """Return the images and masks of a folder that have no partner, by the names of their masks."""
    ending = next((mask.suffix for mask in masks.values()), ".png")
    alone = {name: path for name, path in images.items() if name not in masks}
    missing = "".join(f"{folder / 'masks' / name}{ending}" for name in [*alone][:1])
    reason = f"has no mask: add {missing}" + (", …" if len(alone) > 1 else "")
    without_image = (path for name, path in masks.items() if name not in images)
    return [
        *(Mismatch("images", path, reason) for path in alone.values()),
        *(Mismatch("masks", path, "has no image") for path in without_image),
    ]


def _mismatch(pairs: Pairs, place: int, error: ImageFileError) -> Mismatch:
    """Return what an error says of a pair, which begins with the file."""
    image, mask = pairs.files[place], pairs.masks[place]
    if isinstance(error, UnknownIdsError):
        return Mismatch("masks", mask, f"has {{ids}}: {error.rule}", error.ids)
    kind, file = ("masks", mask) if str(error).startswith(f"{mask} ") else ("images", image)
    return Mismatch(kind, file, str(error).removeprefix(f"{file} "))
