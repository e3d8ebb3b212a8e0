"""Images of one's own, to find objects in."""

from cnnbench.data.detection.files import FLIPPED, DetectionFilesDataModule, Split
from cnnbench.errors import UserError


class DetectionFolderDataModule(DetectionFilesDataModule):
    """Any images below `root`, without annotations: to predict, with a detector that is trained.

    Args:
        root: Folder of the images.
        class_names: Names of the classes, in the order of the labels.
        category_ids: What each class is called in COCO's format; None: as the detector's checkpoint tells, else 1, 2, 3
            and so on.
        batch_size: Images a process and step.
        image_size: Pixels of the shorter side; with `letterbox`, of the longer one.
        max_size: Most pixels of the longer side; None: 5/3 of `image_size`.
        letterbox: Bring the longer side to `image_size`, and pad to a square: all batches are of one shape.
        num_workers: Processes that decode images; None: one a processor core, at most 8.
        in_chans: 3 for RGB images, 1 for grey.
        mean: Of pixels in 0..1; None: the model's, else ImageNet's.
        std: The same.
        decoder: `auto` is the fastest that is installed, of simplejpeg, torchvision and pil.
        on_error: What to do with a file that is not a whole image: `raise`, or `skip` it; what was skipped is counted
            and listed at the end.
    """

    def __init__(
        self,
        root: str = "images",
        class_names: tuple[str, ...] | None = None,
        category_ids: tuple[int, ...] | None = None,
        batch_size: int = 2,
        image_size: int = 800,
        max_size: int | None = None,
        letterbox: bool = False,
        num_workers: int | None = None,
        in_chans: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        decoder: str = "auto",
        on_error: str = "raise",
    ) -> None:
        super().__init__(
            *(root, root, batch_size, image_size, max_size, letterbox, num_workers, in_chans, FLIPPED, False),
            *(mean, std, decoder, on_error),
        )
        if not class_names:
            raise UserError("class_names are missing: those of the detector, which its checkpoint tells")
        if category_ids is not None and not len(set(category_ids)) == len(category_ids) == len(class_names):
            ids = ", ".join(map(str, category_ids))
            raise UserError(f"category_ids are {ids}: there must be one for each of the {len(class_names)} class_names")
        self.class_names = tuple(class_names)
        self._category_ids = None if category_ids is None else list(category_ids)

    has_test = False

    @property
    def category_ids(self) -> list[int]:
        """What each label is called in COCO's format."""
        return super().category_ids if self._category_ids is None else self._category_ids

    def read(self, split: str) -> Split:
        """Refuse to train or evaluate without annotations."""
        raise UserError(f"{self.root} has no annotations: predict with it, or take COCODataModule or VOCDataModule")
